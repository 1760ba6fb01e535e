"""The client: one line for every mistake, and a command that prints one line per image."""

import http.server
import os
import re
import socket
import sys
import threading

import numpy as np
import pytest

from tests.export.server.conftest import PatientClient, as_file, free_port, picture
from tnet_keras.export import client as client_module
from tnet_keras.export.client import ServingClient, main


@pytest.fixture(params=["rest", "grpc"])
def address(request, server):
    return getattr(server, request.param)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"server": "localhost"}, "`server` must be http://host:port for REST or host:port"),
        ({"server": "ftp://localhost:1"}, "`server` must be"),
        ({"server": "http://"}, "`server` must be"),
        ({"server": None}, "`server` must be"),
        ({"model": ""}, "`model` must be a name"),
        ({"signature": None}, "`signature` must be a name"),
        ({"version": 0}, "`version` must be an integer of at least 1. Received: version=0"),
        ({"version": True}, "`version` must be"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"batch_size": None}, "`batch_size` must be an integer of at least 1"),
        ({"timeout": 0}, "`timeout` must be above 0 seconds. Received: timeout=0"),
        ({"timeout": float("nan")}, "`timeout` must be above 0"),
        ({"timeout": "1"}, "`timeout` must be above 0"),
        ({"threshold": "1"}, "`threshold` must be a number. Received: threshold='1'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ServingClient(**{"server": "http://localhost:1", "model": "fruit"} | arguments)


@pytest.mark.parametrize("threshold", [0.0, 2.0])
def test_threshold_decides_how_much_is_looked_at(address, files, threshold):
    with PatientClient(address, "fruit", "classify_bytes_adaptive", threshold=threshold) as client:
        answers = client.classify(files)
    assert [answer["stage"] for answer in answers] == [int(threshold > 1)] * len(files)
    with PatientClient(address, "fruit") as client:
        usual = client.classify(files)
    for answer, other in zip(answers, usual, strict=True):
        same = np.allclose(answer["probabilities"], other["probabilities"], atol=1e-5)
        assert same == (threshold > 1)


@pytest.mark.parametrize(
    ("image", "received"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32 of shape (4, 4, 3)"),
        (np.zeros((4, 4), np.uint8), "uint8 of shape (4, 4)"),
        (np.zeros((0, 4, 3), np.uint8), "uint8 of shape (0, 4, 3)"),
        (7, "int"),
    ],
)
@pytest.mark.parametrize("signature", ["classify_bytes", "serving_default"])
def test_bad_images(image, received, signature):
    with ServingClient("http://localhost:1", "fruit", signature) as client:
        with pytest.raises(ValueError, match=re.escape(received)):
            client.classify([image])


def test_pixels_are_no_files(tmp_path):
    with ServingClient("http://localhost:1", "fruit", "serving_default") as client:
        with pytest.raises(ValueError, match="`images` must be uint8 arrays .* Received: bytes"):
            client.classify(b"")
    with ServingClient("http://localhost:1", "fruit") as client:
        with pytest.raises(FileNotFoundError):
            client.classify(tmp_path / "absent.png")
        assert client.classify([]) == []


@pytest.mark.parametrize("address", ["http://localhost:{}", "localhost:{}"])
def test_no_server(address):
    address = address.format(free_port())
    with ServingClient(address, "fruit", timeout=10) as client:
        for ask in (lambda: client.classify(b""), client.versions):
            with pytest.raises(ConnectionError, match="`server` must be reachable. Received: serv"):
                ask()


@pytest.mark.parametrize("scheme", ["http://", "grpc://"])
def test_a_server_that_does_not_answer(scheme):
    with socket.socket() as silent:
        silent.bind(("localhost", 0))
        silent.listen()
        address = f"{scheme}localhost:{silent.getsockname()[1]}"
        with ServingClient(address, "fruit", timeout=0.3) as client:
            with pytest.raises(OSError, match="`(timeout|server)` must be"):
                client.classify(b"")


def test_another_kind_of_server():
    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            body = {"/a": b"<html>\nHello", "/b": b'{"outputs": {"logits": [[1.0]]}}'}
            body |= {"/c": b'{"outputs": [[1.0]]}'}
            found = self.path[:2] in body
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(body.get(self.path[:2], b"<html>\nNo such page"))

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("localhost", 0), Page) as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.05,))
        thread.start()
        address = f"http://localhost:{other.server_address[1]}"
        try:
            for path, message in [
                ("/a", "`server` must speak the REST interface .* answered '<html> Hello'"),
                ("/b", "answer must hold a status and one entry per image"),
                ("/c", "holds no named outputs"),
                ("/d", "refused the request .HTTP 404: <html> No such page"),
            ]:
                with pytest.raises(RuntimeError, match=message):
                    ServingClient(address + path, "fruit").classify(b"")
        finally:
            other.shutdown()
            thread.join()


def test_what_the_server_does_not_hold(address):
    for arguments, message in [
        ({"model": "tools"}, "`model` and `version` must be served there. Received: model='tools'"),
        ({"model": "fruit", "version": 9}, "must be served there. Received: .* version=9"),
        ({"model": "fruit", "signature": "sing"}, "`signature` must be one .* signature='sing'"),
    ]:
        with PatientClient(address, **arguments) as client:
            with pytest.raises(ValueError, match=message) as raised:
                client.classify(b"")
        assert "\n" not in str(raised.value)
    with ServingClient(address, "tools") as client:
        with pytest.raises(ValueError, match="must be served there"):
            client.versions()


def test_a_request_that_is_refused(address):
    with ServingClient(address, "fruit", "serving_default") as client:
        # A signature of bytes by mistake asked for pixels.
        client._signature = "classify_bytes"
        with pytest.raises(RuntimeError, match="refused the request .*(INVALID_ARGUMENT|400)"):
            client.classify(picture(4, 4))


def test_the_other_port(server):
    other_way = (
        server.rest.removeprefix("http://"),
        f"http://{server.grpc}",
    )
    for address in other_way:
        with ServingClient(address, "fruit", timeout=10) as client:
            with pytest.raises((OSError, RuntimeError), match=re.escape(address)) as raised:
                client.classify(b"")
        assert "\n" not in str(raised.value)


def test_versions(address):
    with PatientClient(address, "fruit") as client:
        assert client.versions() == {1: "AVAILABLE"}


def test_batches(server, monkeypatch):
    content = as_file(picture(48, 48))

    def sizes(client, count):
        asked = []
        predict = client._transport.predict

        def counted(signature, inputs):
            asked.append(len(inputs["image_bytes"]))
            return predict(signature, inputs)

        client._transport.predict = counted
        assert len(client.classify(content for _ in range(count))) == count
        return asked

    with PatientClient(server.rest, "fruit", batch_size=2) as client:
        assert sizes(client, 5) == [2, 2, 1]
    monkeypatch.setattr(client_module, "_BATCH_BYTES", 2 * len(content))
    with PatientClient(server.grpc, "fruit") as client:
        assert sizes(client, 3) == [2, 1]


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(ImportError, match=r"pip install 'tnet_keras\[serving\]'"):
        ServingClient("localhost:8500", "fruit")
    assert main(["client", "--server=localhost:1", "--model=m", "--images=."]) == 2
    ServingClient("http://localhost:8501", "fruit").close()


def test_command(address, files, tmp_path, capsys):
    command = ["client", f"--server={address}", "--model=fruit", "--timeout=600"]
    assert main([*command, *(f"--images={path}" for path in files)]) == 0
    lines = capsys.readouterr().out.splitlines()
    with PatientClient(address, "fruit") as client:
        answers = client.classify(files)
    for line, path, answer in zip(lines, files, answers, strict=True):
        assert line.startswith(
            f"{path}: {answer['labels'][0]} {answer['scores'][0]:.4f}, looked at ("
        )
        assert line.count("(") == len(answer["boxes"]) == 2
    (tmp_path / "a.png").write_bytes(files[0].read_bytes())
    (tmp_path / "b.png").write_bytes(b"")
    assert main([*command, f"--images={tmp_path}", "--batch_size=1", "--version=1"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{tmp_path / 'b.png'}: not read: empty"


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_files_that_cannot_be_read_are_named(server, files, tmp_path, capsys, batch_size):
    good = files[0].read_bytes()
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(good)
    (tmp_path / "c.png").symlink_to(tmp_path / "nowhere")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "d.png"))
    (tmp_path / "e.png").write_bytes(b"text")
    (tmp_path / "f.png").write_bytes(good)
    (tmp_path / "g.png").symlink_to("/dev/zero")
    command = ["client", f"--server={server.rest}", "--model=fruit", "--timeout=600"]
    command.append(f"--batch_size={batch_size}")
    assert main([*command, f"--images={tmp_path}"]) == 3
    lines = [line.removeprefix(f"{tmp_path}/") for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if "not read" in line] == [
        "a.png: not read: no regular file",
        "c.png: not read: No such file or directory",
        "d.png: not read: no regular file",
        "e.png: not read: unknown format",
        "g.png: not read: no regular file",
    ]
    assert [line[:6] for line in lines] == [f"{letter}.png:" for letter in "abcdefg"]
    for bad in ("a.png", "e.png"):
        assert main([*command, f"--images={tmp_path / bad}"]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: None of the 1 files could be read. Received: images")
        assert captured.out.startswith(f"{tmp_path / bad}: not read: ")
    with PatientClient(server.rest, "fruit") as client:
        with pytest.raises(OSError, match="`images` must be regular files. Received: .*a.png"):
            client.classify(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"server": None}, "error: Flag --server must be given."),
        ({"images": None}, "error: Flag --images must be given."),
        ({"images": "/nowhere"}, "error: `images` must be a file, a folder or a pattern"),
        ({"model": "tools"}, "error: `model` and `version` must be served there"),
        ({"signature": "sing"}, "error: `signature` must be one that the model has"),
        ({"signature": "features"}, "error: `signature` must give labels"),
        ({"server": "nonsense"}, "error: `server` must be"),
        ({"timeout": -1}, "error: `timeout` must be above 0"),
        ({"version": 0}, "error: flag --version=0"),
        ({"colour": "red"}, "error: Unknown command line flag 'colour'"),
    ],
)
def test_command_says_what_is_wrong(server, files, capsys, changed, message):
    values = {"server": server.rest, "model": "fruit", "images": files[0], "timeout": 600}
    values |= changed
    command = [f"--{name}={value}" for name, value in values.items() if value is not None]
    assert main(["client", *command]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message) and captured.err.count("\n") == 1
    assert not captured.out


def test_help(capsys):
    assert main(["client", "--help"]) == 0
    assert "--server" in capsys.readouterr().out
