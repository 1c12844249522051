"""What programs do with docker-py, on an engine with the image busybox; ends with the first that isn't as docker has it."""
import io
import tarfile
import time

import docker

client = docker.from_env()
api = client.api
assert client.ping()


def same(what, seen, wanted):
    assert seen == wanted, f"{what}: {seen!r}, and not {wanted!r}"


# Output of a program that ends at once, in every form. The bare socket follows an HTTP head that is read through a buffer.
say = ["sh", "-c", "echo out; echo err >&2"]
same("run", client.containers.run("busybox", say, stderr=True, remove=True).splitlines(), [b"out", b"err"])
same("run, standard output", client.containers.run("busybox", say, remove=True), b"out\n")
failed = None
try:
    client.containers.run("busybox", ["sh", "-c", "echo no >&2; exit 3"], remove=True)
except docker.errors.ContainerError as error:
    failed = (error.exit_status, error.stderr)
same("a program that fails", failed, (3, b"no\n"))
ended = client.containers.create("busybox", ["echo", "hello"])
ended.start()
same("wait", ended.wait()["StatusCode"], 0)
same("attach with the log", ended.attach(stdout=True, logs=True, stream=False), b"hello\n")
same("log", ended.logs(), b"hello\n")
ended.remove()

box = client.containers.run("busybox", ["cat"], name="box", detach=True, stdin_open=True, labels={"k": "v"})
for turn in range(20):
    same("exec", box.exec_run(["echo", str(turn)]), (0, f"{turn}\n".encode()))
    same("exec, taken apart", box.exec_run(say, demux=True), (0, (b"out\n", b"err\n")))
    pieces = list(box.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True, stream=True).output)
    same("exec, stream", sorted(pieces, key=str), [(None, b"err\n"), (b"out\n", None)])
same("exec with a terminal", box.exec_run(["sh", "-c", "echo out; tty"], tty=True).output, b"out\r\n/dev/pts/0\r\n")
same("exec that fails", box.exec_run(["sh", "-c", "exit 9"]).exit_code, 9)
same("environment, user, folder", box.exec_run("sh -c 'echo $A $(id -u) $PWD'", environment={"A": "b"}, user="1", workdir="/tmp"), (0, b"b 1 /tmp\n"))
# A terminal by its creation, frames by its start.
made = api.exec_create("box", ["printf", "framed"], tty=True)
socket = api.exec_start(made["Id"], socket=True)
frame = b""
while len(frame) < 14:
    piece = socket.read(14 - len(frame))
    assert piece, f"the stream ended after {frame!r}"
    frame += piece
same("a framed terminal", frame, b"\x01\0\0\0\0\0\0\x06framed")
socket.close()

stdin = box.attach_socket(params={"stdin": 1, "stream": 1, "stdout": 1})
stdin._sock.sendall(b"typed\n")
for piece in box.logs(stream=True, follow=True):
    same("what was typed", piece, b"typed\n")
    break

archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode="w") as tar:
    info = tarfile.TarInfo("file")
    info.size = 4
    tar.addfile(info, io.BytesIO(b"text"))
assert box.put_archive("/tmp", archive.getvalue())
bits, stat = box.get_archive("/tmp/file")
same("stat", (stat["name"], stat["size"]), ("file", 4))
same("diff", [c for c in box.diff() if c["Path"] == "/tmp/file"], [{"Path": "/tmp/file", "Kind": 1}])
image = box.commit("mine", "1", changes=["CMD [\"cat\", \"/tmp/file\"]"])
same("an image of its own", client.containers.run(image.id, remove=True), b"text")
same("by label", [c.name for c in client.containers.list(filters={"label": "k=v"})], ["box"])
assert box.top()["Titles"] and box.stats(stream=False)["memory_stats"]["usage"] > 0

network = client.networks.create("net", labels={"a": "b"})
network.connect(box, aliases=["other"])
same("by name", client.containers.run("busybox", ["ping", "-c1", "-q", "other"], network="net", remove=True)[:10], b"PING other")
network.disconnect(box)
network.remove()
volume = client.volumes.create("vol")
client.containers.run("busybox", ["sh", "-c", "echo kept > /v/f"], volumes={"vol": {"bind": "/v", "mode": "rw"}}, remove=True)
same("a volume", client.containers.run("busybox", ["cat", "/v/f"], volumes=["vol:/v"], remove=True), b"kept\n")
volume.remove()

try:
    client.images.load(b"no archive")
    raise AssertionError("loaded what is no archive")
except docker.errors.ImageLoadError:
    pass
saved = b"".join(client.images.get("mine:1").save(named=True))
client.images.remove("mine:1")
same("loaded", client.images.load(saved)[0].tags, ["mine:1"])
for missing in (lambda: client.containers.get("nobody"), lambda: client.images.get("nobody"), lambda: client.networks.get("nobody"), lambda: client.volumes.get("nobody")):
    try:
        missing()
        raise AssertionError("found what is not there")
    except docker.errors.NotFound:
        pass

box.stop(timeout=0)
box.reload()
same("stopped", (box.status, box.attrs["State"]["ExitCode"]), ("exited", 137))
since = [e["Action"] for e in client.events(since=0, until=f"{time.time():.9f}", filters={"container": "box"}, decode=True)]
assert since[0] == "create" and "die" in since and "stop" in since, since
box.remove()
same("what is left", client.containers.list(all=True), [])
print("ok")
