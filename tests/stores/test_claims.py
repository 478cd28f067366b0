"""Claims: one process at a time asks for a key, and nobody waits for one that is gone."""

import multiprocessing
from pathlib import Path
from typing import TYPE_CHECKING

from claude_force.stores.claims import Claims

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

KEY = "0123456789abcdef" * 4


def test_a_claim_is_granted_once_until_it_ends(tmp_path: Path) -> None:
    """Also through another object for the same folder."""
    one, other = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    release = one.claim(KEY)
    assert release
    assert other.claim(KEY) is None
    release()
    assert other.claim(KEY)


def test_a_thread_that_blocks_shares_its_own_claim(tmp_path: Path) -> None:
    """Whichever of the two ends first, the claim ends with the other."""
    claims = Claims(tmp_path / "claims")
    outer, inner = claims.claim(KEY), claims.claim(KEY, is_blocking=True)
    assert outer
    assert inner
    outer()
    assert claims.claim(KEY) is None
    inner()
    assert claims.claim(KEY)


def test_a_forked_child_has_no_claims_of_its_parent(tmp_path: Path) -> None:
    """It waits for the parent's as for anybody's, and gets the key when they end."""
    claims = Claims(tmp_path / "claims")
    release = claims.claim(KEY)
    assert release
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()

    def child(pipe: "Connection") -> None:
        pipe.send(claims.claim(KEY) is None)
        release()  # what unwinds in the child ends nothing of the parent's
        pipe.send(claims.claim(KEY) is None)
        pipe.recv()
        pipe.send(claims.claim(KEY) is not None)

    process = fork.Process(target=child, args=(there,))
    process.start()
    assert here.recv()
    assert here.recv()
    release()
    here.send("ended")
    assert here.recv()
    process.join()


def test_where_no_file_can_be_every_claim_is_granted(tmp_path: Path) -> None:
    """A link, or a file where the folder should be."""
    (tmp_path / "claims").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "claims", tmp_path / "file/claims"):
        for _ in range(2):
            release = Claims(path).claim(KEY)
            assert release
            release()
    assert not (tmp_path / "nowhere").exists()
