"""Nothing in the manifests opens a port to the world or holds a secret."""

import re

import pytest
from manifests import CLUSTER, TEXT_FILES

KEY = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN|(?i:password|secret_access_key|auth_token|token|api_key)\s*[:=]\s*[\"']?[A-Za-z0-9+/_-]{16,}"
)


@pytest.mark.parametrize("file", TEXT_FILES, ids=lambda file: str(file.relative_to(CLUSTER)))
def test_no_file_holds_a_credential_or_switches_the_token_off(file):
    text = file.read_text()
    assert not KEY.search(text)
    assert "RAY_AUTH_MODE=disabled" not in text and "mode: disabled" not in text
    assert "privileged: true" not in text and "hostNetwork" not in text


@pytest.mark.parametrize("file", TEXT_FILES, ids=lambda file: str(file.relative_to(CLUSTER)))
def test_the_dashboard_listens_on_the_loopback_or_in_a_container_whose_port_is_not_published(file):
    assert "dashboard-host=0.0.0.0" not in file.read_text() or file.name == "compose.yaml"


def test_credentials_are_found():
    assert KEY.search("RAY_AUTH_TOKEN=0123456789abcdef0123") and KEY.search("password: hunter2hunter2hunter2")
