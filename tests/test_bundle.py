"""`bundle` beside a running exporter: what that one knows of its probes goes into the zip."""

import json
import socket
import zipfile
from pathlib import Path

import pytest
from exporting import Site, eventually, process
from live_programs import free_port

from exporter.cli import main


@pytest.mark.slow
def test_the_running_exporters_probe_history_is_in_the_bundle(tmp_path: Path) -> None:
    site = Site(tmp_path).with_samples()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        probe = {"target": target, "role": "backend", "protocol": "tcp", "proxy": "none", "interval": "1s"}
        site.settings |= {"probes": [probe], "web": {"listen_addresses": [f"127.0.0.1:{free_port()}"]}}
        with process(site, "--config.file", str(site.configured())) as exporter:
            exporter.await_ready()
            eventually(
                "a probe ended", lambda: json.loads(exporter.ask("/api/v1/status").text)["probes"][0]["attempts"]
            )
            bundle = tmp_path / "bundle.zip"
            assert main(["bundle", "--config.file", str(site.config_file), "-o", str(bundle)]) == 0
    with zipfile.ZipFile(bundle) as zipped:
        running = json.loads(zipped.read("running.json"))
        versions = json.loads(zipped.read("versions.json"))
    assert running["probes"][0]["results"][0]["success"] is True
    assert versions["state_file_exists"] is True
    assert versions["packages"]["aiohttp"]
