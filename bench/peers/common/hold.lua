-- wrk script of W4: each request is sent once, and wrk ends when all that were sent are answered.
-- env SECS: how long requests are sent
-- env TARGETS: file of "path<tab>body" lines, one request each; without it, as post.lua: RUN and PATH_FMT
-- env COLLECT: file into which the bodies of the answers go, a line each (optional)
local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long s; long ns; } hold_time;
  int clock_gettime(int clock, hold_time *at);
  int getpid(void);
  int kill(int pid, int signal);
]]
local at = ffi.new("hold_time")
local function now()
  ffi.C.clock_gettime(1, at)
  return tonumber(at.s) + tonumber(at.ns) / 1e9
end

local hdr = { ["content-type"] = "application/json" }
local run, fmt, secs = os.getenv("RUN"), os.getenv("PATH_FMT"), tonumber(os.getenv("SECS"))
local targets = os.getenv("TARGETS") and io.lines(os.getenv("TARGETS"))
local collect = os.getenv("COLLECT") and io.open(os.getenv("COLLECT"), "w")
local asked = false      -- wrk asks for one request that it does not send, to see whether it parses
local n, began, over = 0, nil, false
sent, answered, refused, took = 0, 0, 0, 0
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

local function following()
  if targets then
    local line = targets()
    if not line then return nil end
    local path, body = line:match("^(.-)\t(.*)$")
    return wrk.format("POST", path, hdr, body)
  end
  n = n + 1
  local id = string.format("%s-%08d", run, n)
  local head = '{"id":"' .. id .. '","amount":700,"email":"someone@example.test","pad":"'
  return wrk.format("POST", fmt and fmt:gsub("%%ID%%", id) or nil, hdr, head .. string.rep("x", 300 - #head - 2) .. '"}')
end

local function ended()
  if over and answered == sent then
    if collect then collect:flush() end
    ffi.C.kill(ffi.C.getpid(), 2)      -- else wrk would sleep until the end of its -d
  end
end

function request()
  if not asked then
    asked = true
    return wrk.format("POST", nil, hdr, "{}")
  end
  began = began or now()
  over = over or now() - began >= secs
  local one = not over and following()
  if not one then
    over = true
    ended()
    return ""            -- nothing more on this connection
  end
  sent = sent + 1
  return one
end

function response(status, headers, body)
  answered = answered + 1
  took = now() - began
  if status >= 300 then
    refused = refused + 1
  elseif collect then
    collect:write(body, "\n")
  end
  ended()
end

function done(summary, latency, requests)
  local t = threads[1]
  io.write(string.format(
    "JSON {\"sent\":%d,\"requests\":%d,\"us\":%d,\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,\"status_err\":%d,\"sock_err\":%d,\"timeout\":%d}\n",
    t:get("sent"), t:get("answered"), t:get("took") * 1e6, latency:percentile(50) / 1000,
    latency:percentile(90) / 1000, latency:percentile(99) / 1000, latency.max / 1000, t:get("refused"),
    summary.errors.connect + summary.errors.read + summary.errors.write, summary.errors.timeout))
end
