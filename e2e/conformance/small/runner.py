#!/usr/bin/env python3
"""The smallest runner that conforms at level core: what the contract asks of one, in about
a hundred lines and without libraries. Its queue is a directory. See ../README.md for how
it is called; variants.yaml breaks it, a line at a time."""
import base64, http.client, json, os, re, signal, ssl, subprocess, sys, time, urllib.parse

E = os.environ
QUEUE, NAME, SLOTS = E.get("CONFORMANCE_QUEUE", ""), E.get("CONFORMANCE_NAME", "small"), int(E.get("CONFORMANCE_SLOTS", "1"))
SETTLE = float(E.get("CONFORMANCE_SETTLE", "2"))
STATES = ("Running", "DrainAndTerminate", "DrainAndSuspend")


def queue():
    for part in ("new", "ready", "claimed"):
        os.makedirs(f"{QUEUE}/{part}", exist_ok=True)


def describe():
    print("organization: studioml\nproject: small-runner\nurl: https://github.com/studioml/studio-go-runner\nversion: '1'")


def submit():
    queue()
    for task in map(json.loads, sys.stdin):
        path = f"{QUEUE}/new/{task['id']}"
        with open(path, "w") as f:
            json.dump({**task, "attempt": 0}, f)
        os.rename(path, f"{QUEUE}/ready/{time.time_ns()}.{task['id']}")


class Maps:
    """The two maps as they were last read, and the effective state, None before that."""

    def __init__(self):
        config = open(E["KUBECONFIG"]).read()
        word = lambda key: re.search(rf"{key}: (\S+)", config)[1]
        self.path, self.token = f"/api/v1/namespaces/{E['CONFORMANCE_NAMESPACE']}/configmaps/", word("tokenFile")
        tls = ssl.create_default_context(cadata=base64.b64decode(word("certificate-authority-data")).decode())
        self.server = http.client.HTTPSConnection(urllib.parse.urlsplit(word("server")).netloc, timeout=5, context=tls)
        self.names = ["studioml-go-runner", E["HOSTNAME"]]
        self.last, self.newest, self.effective = {}, self.names[0], None

    def value(self, name):
        """What a map asks for: a state, or nothing."""
        self.server.request("GET", self.path + name, headers={"Authorization": "Bearer " + open(self.token).read()})
        answer = self.server.getresponse()
        text = answer.read()
        if answer.status == 404:
            return None  # there is no such map
        if answer.status != 200:
            raise OSError(f"{answer.status} {answer.reason}")
        value = (json.loads(text).get("data") or {}).get("STATE", "").strip()
        if value and value not in STATES:
            print(f"map {name}: STATE is {value!r}; must be one of {STATES}", flush=True)
            return self.last.get(name)
        return value or None

    def read(self):
        """Both maps afresh. While one cannot be read, the last state stays."""
        try:
            for name in self.names:
                before, self.last[name] = self.last.get(name), self.value(name)
                if self.last[name] != before:
                    self.newest = name
                    print(f"map {name} asks for {self.last[name] or 'nothing'}", flush=True)
        except (OSError, http.client.HTTPException) as err:
            self.server.close()  # the next request connects anew
            print("cannot read the maps:", err, flush=True)
            return False
        self.effective = self.last[self.names[1]] or self.last[self.names[0]] or "Running"
        return True


class Runner:
    def __init__(self):
        self.maps, self.tasks, self.signalled, self.asked = Maps(), {}, False, None
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "signalled", True))

    def take(self):
        for entry in sorted(os.listdir(f"{QUEUE}/ready")):
            if len(self.tasks) >= SLOTS:
                return
            try:
                os.rename(f"{QUEUE}/ready/{entry}", f"{QUEUE}/claimed/{entry}")
            except FileNotFoundError:
                continue  # another runner was quicker
            with open(f"{QUEUE}/claimed/{entry}") as f:
                task = json.load(f)
            task["attempt"] += 1
            env = {**E, **task.get("env", {}), "STUDIOML_TASK_ID": task["id"], "STUDIOML_TASK_ATTEMPT": str(task["attempt"]), "STUDIOML_RUNNER": NAME}
            self.tasks[entry] = task, subprocess.Popen([task["command"], *task.get("args", [])], env=env, start_new_session=True)

    def reap(self):
        for entry, (task, process) in list(self.tasks.items()):
            if process.poll() is None:
                continue
            del self.tasks[entry]
            if process.returncode != 0 and task["attempt"] < task.get("maxAttempts", 3):
                with open(f"{QUEUE}/claimed/{entry}", "w") as f:
                    json.dump(task, f)
                os.rename(f"{QUEUE}/claimed/{entry}", f"{QUEUE}/ready/{entry}")
            else:
                os.remove(f"{QUEUE}/claimed/{entry}")

    def over(self, fresh):
        """The exit code, if it is time to go: idle, and told so for long enough, by a fresh look."""
        if self.maps.effective != "DrainAndTerminate":
            self.asked = None
        elif self.asked is None:
            self.asked = time.monotonic()
        if self.tasks:
            return None
        if self.signalled:
            return 143, "drained after SIGTERM"
        if self.asked is not None and fresh and time.monotonic() - self.asked >= SETTLE:
            return 0, f"drained because STATE is DrainAndTerminate; the map {self.maps.newest} changed last"
        return None

    def run(self):
        queue()
        while True:
            fresh = self.maps.read()
            self.reap()
            if self.maps.effective == "Running" and not self.signalled:
                self.take()
            if end := self.over(fresh):
                with open(E["CONFORMANCE_TERMINATION_LOG"], "w") as f:
                    f.write(end[1])
                sys.exit(end[0])
            time.sleep(0.2)


{"describe": describe, "submit": submit, "run": lambda: Runner().run()}[sys.argv[1]]()
