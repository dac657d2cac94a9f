"""What the image and compose.yaml promise: confined nodes, ports of this machine alone, secrets of each node's own."""

import http.client
import json
import subprocess

from cluster import Cluster, docker, eventually, run

PLACES = {"/": False, "/opt/app": False, "/tmp": False, "/node": True, "/data": True}
WRITABLE = f"""
import json, tempfile
def is_writable(place):
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError:
        return False
    return True
print(json.dumps({{place: is_writable(place) for place in {list(PLACES)}}}))
"""


def test_a_node_has_no_rights(cluster: Cluster) -> None:
    """Not root, nothing to become it with, and nothing to write to but its two volumes."""
    for node in cluster.nodes:
        pid = json.loads(node.execute("cat", "/node/run.json"))["pid"]
        status = dict(
            line.split(":\t", 1) for line in node.execute("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line
        )
        assert status["Uid"].split() == ["10001"] * 4
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert json.loads(node.execute("python3", "-c", WRITABLE)) == PLACES


def test_only_this_machine_reaches_a_node(cluster: Cluster) -> None:
    """One port of 127.0.0.1 each; the key is needed, and Host is looked at, as without a container."""
    for node in cluster.nodes:
        ports = json.loads(node.inspect("{{json .NetworkSettings.Ports}}"))
        published = {port: bound for port, bound in ports.items() if bound}
        assert published == {"9077/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(node.port)}]}
        assert asked(node.port, {"Host": "memories.example"}) == (403, "forbidden_host")
        assert asked(node.port, {}) == (401, "unauthorized")
        assert node.call("GET", "/stats")[0] == 200  # control: with key and name it answers


def asked(port: int, headers: dict[str, str]) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/api/v1/stats", headers=headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())["code"]
    finally:
        connection.close()


def test_each_has_its_own_secrets_and_nobody_the_others(cluster: Cluster) -> None:
    """Passphrase, key and API key differ, are private, and a node sees no folder but its own, and no CA's key."""
    for name in ("passphrase", "node.key", "api-key"):
        assert len({node.execute("cat", f"/node/{name}") for node in cluster.nodes}) == len(cluster.nodes)
    look = "from pathlib import Path; print(sum(1 for top in ('/mesh', '/node') for _ in Path(top).rglob('*.key')))"
    for node in cluster.nodes:
        assert node.execute("python3", "-c", look) == "1"
        mounts = json.loads(node.inspect("{{json .Mounts}}"))
        volumes = {one["Name"].removeprefix(f"{cluster.project}_") for one in mounts if one["Type"] == "volume"}
        assert volumes == {f"{node.name}-home", f"{node.name}-data"}


def test_the_check_of_health_is_honest(cluster: Cluster) -> None:
    """All are healthy; the same check, where nothing serves, fails."""
    for node in cluster.nodes:
        eventually(lambda node=node: node.inspect("{{.State.Health.Status}}") == "healthy", f"{node.name} is healthy")
    (kind, program, *arguments) = json.loads(
        docker("image", "inspect", "--format", "{{json .Config.Healthcheck.Test}}", cluster.image)
    )
    assert (kind, program) == ("CMD", "python3")
    ran = run("docker", "run", "--rm", "--entrypoint", program, cluster.image, *arguments, check=False)
    assert ran.returncode == 1
    assert "ConnectionRefusedError" in ran.stderr


def test_a_folder_carried_to_another_machine_is_that_node(cluster: Cluster) -> None:
    """README, *The same files on three real machines*: by two pipes, with all its modes."""
    source, target = f"{cluster.project}_b-home", f"{cluster.project}_carried"
    tar = ("docker", "run", "--rm", "-i", "--entrypoint", "tar")
    packed = subprocess.run(
        (*tar, "-v", f"{source}:/node", cluster.image, "-C", "/node", "-c", "."), stdout=subprocess.PIPE, check=True
    )
    subprocess.run((*tar, "-v", f"{target}:/node", cluster.image, "-C", "/node", "-x"), input=packed.stdout, check=True)
    assert (
        docker("run", "--rm", "-v", f"{target}:/node", cluster.image, "fingerprint")
        == cluster.nodes[1].command("fingerprint")[1].strip()
    )
    there = ("run", "--rm", "-v", f"{target}:/node", "-v", f"{target}-data:/data", cluster.image)
    docker(*there, "init", "--store")  # its store was not carried there
    stored = ("store", "a title", "written on another machine", "--json")  # needs passphrase and modes to be right
    assert json.loads(docker(*there, *stored))["agent_id"] == "host:b"


def test_the_image_has_no_secret(cluster: Cluster) -> None:
    """The folders that volumes cover are empty, and the program's own."""
    look = "import os; print({(tuple(os.listdir(one)), os.stat(one).st_uid, oct(os.stat(one).st_mode)) for one in %r})"
    folders = ["/node", "/data", "/mesh/ca", *(f"/mesh/{name}/data" for name in ("a", "b", "c", "stranger"))]
    told = docker("run", "--rm", "--entrypoint", "python3", cluster.image, "-c", look % folders)
    assert told == "{((), 10001, '0o40700')}"
