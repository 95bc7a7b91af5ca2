"""What a supervisor keeps to itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fissile.machine.process_secrets import own

TAKEN = """
import os, sys
from fissile.machine import process_secrets
process_secrets.take()
process_secrets.close_to_others()
assert process_secrets.variables() == {"FISSILE_CART_KEY": "the-secret"}, process_secrets.variables()
assert os.environ["OTHER"] == "stays"
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that shows it")
def test_variables_are_not_shown_any_more():
    environment = {"FISSILE_CART_KEY": "the-secret", "OTHER": "stays", "PATH": os.environ["PATH"]}
    with subprocess.Popen(
        [sys.executable, "-c", TAKEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        if os.getuid() == 0:
            shown = Path(f"/proc/{process.pid}/environ").read_bytes()
            assert b"the-secret" not in shown
            assert b"OTHER=stays\0" in shown
        assert Path(f"/proc/{process.pid}/mem").stat().st_uid == 0  # no other process of this user opens it
        process.communicate()
        assert process.returncode == 0


def test_a_service_gets_nothing_of_one_whose_name_is_longer():
    found = {"FISSILE_SHOP_KEY": "1", "FISSILE_SHOP_ADMIN_KEY": "2", "FISSILE_SHOPPER_KEY": "3", "FISSILE_KEY": "4"}
    assert own(found, "shop", ["shop", "shop-admin", "shopper"]) == {"FISSILE_SHOP_KEY": "1"}
    assert own(found, "shop-admin", ["shop", "shop-admin", "shopper"]) == {"FISSILE_SHOP_ADMIN_KEY": "2"}
    assert own(found, "shop", ["shop"]) == {"FISSILE_SHOP_KEY": "1", "FISSILE_SHOP_ADMIN_KEY": "2"}
    assert own(found, "cart", ["cart", "shop"]) == {}
