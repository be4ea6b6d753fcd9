#!/usr/bin/env python3
"""PEERS_DIR=... python3 bench.py PEER [--parts start,w1,w2,w3,w4,hold,crash,fsync] [--runs 3] [--secs 6] [--conns 1,16,64,256] [--holds 1000,10000]
Appends JSON lines to $PEERS_DIR/results/PEER.jsonl. Only loopback; ends only the processes that it started."""
import argparse, asyncio, collections, json, os, random, signal, subprocess, sys, threading, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "common"))
from peers import PEERS, ROOT, HERE, body, http
from aclient import run_jobs

ap = argparse.ArgumentParser()
ap.add_argument("peer")
ap.add_argument("--parts", default="start,w1,w2,w3,w4,crash")
ap.add_argument("--runs", type=int, default=3)
ap.add_argument("--secs", type=int, default=6)
ap.add_argument("--conns", default="1,16,64,256")
ap.add_argument("--holds", default="")
ap.add_argument("--holdconns", default="64", help="connections of the part hold")
ap.add_argument("--tag", default="")
ap.add_argument("--holdwait", type=float, default=3, help="seconds between holding and measuring memory/killing")
ap.add_argument("--kills", default="0,1", help="W4 variants: 0 = without, 1 = with kill -9 while held")
ap.add_argument("--drain", type=float, default=60, help="seconds to wait for what was accepted to finish")
ap.add_argument("--longest", type=float, default=20, help="seconds that a level of a slow peer may take")
ap.add_argument("--no-extra", action="store_true", help="leave out the peer's own variants of W3")
ap.add_argument("--keep", action="store_true", help="one start for all parts of HTTP and the holds, short warm-ups")
a = ap.parse_args()
P = PEERS[a.peer]()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))      # so that the peer's processes are ended too
os.makedirs(ROOT + "/results", exist_ok=True)
OUT = open(f"{ROOT}/results/{a.peer}.jsonl", "a")
stamp = time.strftime("%H%M%S")


def emit(**k):
    k = {"peer": a.peer, "at": time.strftime("%H:%M:%S"), "tag": a.tag, **k, "load1": os.getloadavg()[0]}
    print(json.dumps(k), flush=True)
    OUT.write(json.dumps(k) + "\n")
    OUT.flush()


def wrk(w, conns, secs, run):
    env = {**os.environ, "RUN": run}
    if "%ID%" in P.paths[w]:
        env["PATH_FMT"] = P.paths[w]
    r = subprocess.run(["wrk", "-t1", f"-c{conns}", f"-d{secs}s", "--timeout", "30s", "-s", HERE + "/common/post.lua",
                        f"http://127.0.0.1:{P.port}{P.paths[w]}"], capture_output=True, text=True, env=env)
    for ln in r.stdout.splitlines():
        if ln.startswith("JSON "):
            d = json.loads(ln[5:])
            d["rps"] = round(d["requests"] / (d["us"] / 1e6), 1)
            return d
    raise SystemExit(r.stdout + r.stderr)


def wait_count(target, limit, idle=20):
    """poll the finished count; returns (count, seconds since the last change was first seen)"""
    t0 = last = time.time()
    c = c0 = P.count()
    while c < target and time.time() - t0 < limit and time.time() - last < idle:
        time.sleep(0.25)
        try:
            c = P.count()
        except Exception:
            continue
        if c != c0:
            c0, last = c, time.time()
    return c, last


def part_start():
    P.wipe()
    t = time.time()
    first = P.start()
    total = time.time() - t
    time.sleep(5)
    emit(part="start", kind="fresh", first_webhook_s=round(first, 2), with_setup_s=round(total, 2), **P.mem(), disk_mb=P.disk_mb())
    P.stop()
    for _ in range(a.runs):
        s = P.start()
        time.sleep(3)
        emit(part="start", kind="warm", first_webhook_s=round(s, 2), **P.mem())
        P.stop()


def quiesce(limit=40):
    """wait until the peer's processes are (nearly) idle, so that one level's left-overs don't weigh on the next"""
    end, pause = time.time() + limit, 0.4 if a.keep else 1
    while time.time() < end:
        c = P.cpu()
        time.sleep(pause)
        if P.cpu() - c <= 0.12 * pause:
            return


def fresh():
    """an empty peer, or with --keep the one that runs"""
    if not (a.keep and P.procs):
        P.wipe()
        P.start()


def part_http(w):
    conns = [int(x) for x in a.conns.split(",")]
    for run in range(a.runs):
        fresh()
        c0 = P.count() if w == "w1" and P.counts else 0
        d = wrk(w, 8, 1 if a.keep else 2, f"warm{w}{stamp}{run}")             # warm-up
        if w == "w1" and P.counts:
            wait_count(c0 + d["requests"], 30, 20)
            time.sleep(0 if a.keep else 1)
        rps = d["rps"]
        for c in conns:
            quiesce()
            secs = int(max(a.secs, min(a.longest, 5 * c / max(rps, 0.5))))       # slow peers: at least about 5 answers a connection
            base = P.count() if w == "w1" and P.counts else 0
            cpu0, t0 = P.cpu(), time.time()
            d = wrk(w, c, secs, f"{w}{stamp}{run}-{c}")
            rps = max(d["rps"], 1)
            d["cpu_cores"] = round((P.cpu() - cpu0) / (time.time() - t0), 2)
            x = {}
            if w == "w1" and P.counts:
                t1 = t0 + d["us"] / 1e6
                n1 = P.count() - base
                cnt, last = wait_count(base + d["requests"], a.drain)
                fin = cnt - base
                end = max(last, t1)
                x = {"done_at_end": n1, "finished": fin, "drain_s": round(end - t1, 2), "finish_rps": round(fin / (end - t0), 1)}
            emit(part=w, run=run, conns=c, **d, **x, **P.mem())
            if x and x["finished"] < d["requests"] and (a.keep or c != conns[-1]):      # backlog left: go on with a fresh peer
                P.kill9()
                P.wipe()
                P.start()
        if not a.keep:
            P.stop()


def hold_create(k, pre, conns=32):
    held, bad = {}, collections.Counter()

    def res(mid, st, out, s):
        if st is not None and st < 300:
            held[mid] = out.decode("utf8", "replace")
        else:
            bad[str(st)] += 1
    t = time.time()
    asyncio.run(run_jobs("127.0.0.1", P.port, ((m, P.path("w4", m), body(m)) for m in (f"{pre}-{i:07d}" for i in range(k))), conns, res))
    return held, dict(bad), time.time() - t


def hold_resume(held, conns=32):
    ok, bad = set(), collections.Counter()

    def res(mid, st, out, s):
        if st is not None and st < 300:
            ok.add(mid)
        else:
            bad[f"{st} {out[:60]!r}"] += 1
    order = list(held)
    random.Random(1).shuffle(order)
    t = time.time()
    asyncio.run(run_jobs("127.0.0.1", P.port, ((m, *P.hold_job(m, held[m])) for m in order), conns, res, retries=3))
    return ok, dict(bad), time.time() - t


def settle_held(k, limit):
    t0, last, h0 = time.time(), time.time(), -1
    h = 0
    while time.time() - t0 < limit and time.time() - last < 15:
        try:
            h = P.held()
        except Exception:
            h = -2
        if h != h0:
            h0, last = h, time.time()
        if h >= k:
            break
        time.sleep(0.5)
    return h, time.time() - t0


def part_w4():
    holds = [int(x) for x in a.holds.split(",")] if a.holds else P.holds
    for k in holds:
        for kill in [x == "1" for x in a.kills.split(",")]:
            P.wipe()
            P.start()
            wrk("w2", 4, 1, f"warm{stamp}")
            time.sleep(3)
            m0, d0 = P.mem(), P.disk_mb()
            held, bad, s = hold_create(k, f"h{stamp}{k}{int(kill)}")
            h, hs = settle_held(len(held), 120)
            time.sleep(a.holdwait)
            if P.name == "restate-short":
                P.held()
            m1, d1 = P.mem(), P.disk_mb()
            r = dict(part="w4", k=k, kill=kill, created=len(held), create_bad=bad, create_s=round(s, 2), create_rps=round(len(held) / s, 1),
                     held_seen=h, settle_s=round(hs, 2), states=getattr(P, "held_states", None),
                     kb_per_held_pss=round((m1["pss_mb"] - m0["pss_mb"]) * 1024 / max(1, len(held)), 2),
                     disk_kb_per_held=round((d1 - d0) * 1000 / max(1, len(held)), 2), mem0=m0, mem1=m1)
            if kill:
                P.kill9()
                r["restart_first_webhook_s"] = round(P.start(), 2)
                try:
                    r["held_after_restart"] = P.held()
                except Exception as e:
                    r["held_after_restart"] = repr(e)[:80]
            base = P.count()
            t = time.time()
            ok, rbad, rs = hold_resume(held)
            cnt, last = wait_count(base + len(held), 300, 40)
            done = cnt - base
            r.update(resume_acked=len(ok), resume_bad=rbad, resume_ack_s=round(rs, 2), resumed_done=done,
                     resume_all_s=round(max(last - t, rs), 2), resume_rps=round(done / max(last - t, rs, 0.001), 1), mem2=P.mem())
            emit(**r)
            P.stop()


def hold_wrk(conns, secs, **env):
    """requests sent once each for so many seconds, then waited for; see common/hold.lua"""
    env = {**os.environ, "SECS": str(secs), **env}
    r = subprocess.run(["wrk", "-t1", f"-c{conns}", f"-d{secs + 30}s", "--timeout", "30s", "-s", HERE + "/common/hold.lua",
                        f"http://127.0.0.1:{P.port}{P.paths['w4'] if '%ID%' not in P.paths['w4'] else '/'}"], capture_output=True, text=True, env=env)
    for ln in r.stdout.splitlines():
        if ln.startswith("JSON "):
            d = json.loads(ln[5:])
            d["sock_err"] = d["sent"] - d["requests"]        # a server may well close a connection that has nothing more to send
            d["rps"] = round((d["requests"] - d["status_err"]) / max(d["us"] / 1e6, 0.001), 1)
            return d
    raise SystemExit(r.stdout + r.stderr)


def part_hold():
    """W4 at speed: holds are made for some seconds, then any of them resumed for as long, each once; all that were resumed must finish"""
    folder = os.path.join(ROOT, "data")
    made, aims = os.path.join(folder, "holds.made"), os.path.join(folder, "holds.aims")
    for run in range(a.runs):
        for c in [int(x) for x in a.holdconns.split(",")]:
            fresh()
            hold_wrk(8, 1, RUN=f"w{stamp}", **P.hold_env())                      # warm-up
            quiesce(15)
            before, pre = P.held(), f"h{stamp}{run}c{c}"
            d = hold_wrk(c, a.secs, RUN=pre, COLLECT=made, **P.hold_env())
            held, s = settle_held(before + d["requests"] - d["status_err"], 40)
            quiesce()
            emit(part="w4 create", run=run, conns=c, **d, held=held - before, missing=d["requests"] - d["status_err"] - held + before,
                 settle_s=round(s, 2), finish_rps=round((held - before) / (d["us"] / 1e6 + s), 1), states=getattr(P, "held_states", None), **P.mem())
            answers = open(made).read().splitlines()
            ids = [f"{pre}-{i:08d}" for i in range(1, d["sent"] + 1)]
            jobs = [P.hold_job(i, x) for i, x in (((json.loads(x)["id"], x) for x in answers) if P.aims_by_answer else ((i, "") for i in ids))]
            random.Random(1).shuffle(jobs)
            with open(aims, "w") as f:
                f.writelines(f"{path}\t{what.decode()}\n" for path, what in jobs)
            base, t0 = P.count(), time.time()
            d = hold_wrk(c, a.secs, TARGETS=aims)
            cnt, last = wait_count(base + d["requests"] - d["status_err"], a.drain)
            end = max(last, t0 + d["us"] / 1e6)
            emit(part="w4 resume", run=run, conns=c, **d, finished=cnt - base, missing=d["requests"] - d["status_err"] - cnt + base,
                 finish_rps=round((cnt - base) / (end - t0), 1), **P.mem())
            if not a.keep:
                P.stop()


def part_crash():
    for run in range(a.runs):
        P.wipe()
        P.use_ledger()
        P.start()
        wrk("w2", 4, 1, f"warm{stamp}")
        pre = f"k{stamp}{run}"
        acked, unknown = set(), set()
        stop = threading.Event()
        killed = []

        def res(mid, st, out, s):
            (acked if st is not None and st < 300 else unknown).add(mid)

        def killer():
            time.sleep(4 + random.random())
            P.kill9()
            killed.append(time.time())
            stop.set()
        th = threading.Thread(target=killer)
        th.start()

        def ids():
            i = 0
            while not stop.is_set():
                yield i
                i += 1
        asyncio.run(run_jobs("127.0.0.1", P.port, ((m, P.path("w1", m), body(m)) for m in (f"{pre}-{i:07d}" for i in ids())), 32, res, stop, 30))
        th.join()
        before = collections.Counter(P.ledger()) if P.name != "n8n-pg" else {}
        rec = P.start()
        t, last, n = time.time(), time.time(), -1
        while time.time() - t < 90 and time.time() - last < 12:
            x = len(P.ledger())
            if x != n:
                n, last = x, time.time()
            time.sleep(1)
        led = collections.Counter(i for i in P.ledger() if i.startswith(pre))
        try:
            pend = P.pending()
        except Exception as e:
            pend = repr(e)[:60]
        x = {}
        if P.name.startswith("n8n"):
            x["n8n_status"] = dict(P.q("select status||'', count(*) from execution_entity where workflowId='w1' group by status")) if P.name != "n8n-pg" else None
        emit(part="crash", run=run, acked=len(acked), unanswered=len(unknown), executed=len(led), lost=len(acked - set(led)),
             duplicated=sum(1 for v in led.values() if v > 1), max_times=max(led.values(), default=0),
             done_before_kill=sum(1 for i in before if i.startswith(pre)), unanswered_but_executed=len(unknown & set(led)),
             restart_s=round(rec, 2), catch_up_s=round(last - t, 1), pending_after=pend, **x)
        P.stop()
        P.env_extra.pop("LEDGER", None)


def part_fsync():
    """count fsync/fdatasync of all of the peer's processes during W1 at 16 connections"""
    P.wipe()
    P.start()
    wrk("w1", 8, 2, f"warm{stamp}")
    wait_count(1 << 60, 20, 2) if P.counts else time.sleep(5)
    f = os.path.join(ROOT, "logs", "strace." + P.name)
    cmd = ["strace", "-f", "-c", "-e", "trace=fsync,fdatasync,sync_file_range,msync", "-o", f]
    for p in P.pids():
        cmd += ["-p", str(p)]
    s = subprocess.Popen(cmd, stderr=subprocess.DEVNULL)
    time.sleep(1)
    d = wrk("w1", 16, 5, f"fs{stamp}")
    time.sleep(2)
    s.send_signal(2)
    s.wait(20)
    calls = {}
    for ln in open(f):
        w = ln.split()
        if len(w) >= 5 and w[-1] in ("fsync", "fdatasync", "sync_file_range", "msync"):
            calls[w[-1]] = int(w[3])
    emit(part="fsync", requests=d["requests"], rps=d["rps"], calls=calls, per_request=round(sum(calls.values()) / max(1, d["requests"]), 3))
    P.stop()


try:
    for part in a.parts.split(","):
        if part == "start":
            part_start()
        elif part in ("w1", "w2", "w3"):
            part_http(part)
            if part == "w3" and not a.no_extra:
                for e in P.w3_extra:
                    part_http(e)
        else:
            globals()["part_" + part]()
finally:
    if P.procs:
        P.kill9()
