import os

import pytest

from flowmm.listing import list_files
from flowmm.pruning import plan_prune, prune
from flowmm.store import save
from tests.unit import small_caches

DAY = 86400


@pytest.fixture
def folder(tmp_path):
    """Three files of the same size: `a` changed last on day 1, `b` on day 3, `c` on day 2; and one of the user's."""
    for name, day in (("a.kv", 1), ("b.kv", 3), ("c.kv", 2)):
        save(small_caches.ragged(), tmp_path / name)
        os.utime(tmp_path / name, (day * DAY, day * DAY))
    (tmp_path / "precious.kv").write_text("not flowmm's, though it is called like that")
    os.utime(tmp_path / "precious.kv", (0, 0))
    return tmp_path


def names(files) -> list[str]:
    return [os.path.basename(file.path) for file in files]


def left(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("max_files", "delete", "keep"),
    [(3, [], ["a.kv", "c.kv", "b.kv"]), (2, ["a.kv"], ["c.kv", "b.kv"]), (0, ["a.kv", "c.kv", "b.kv"], [])],
)
def test_the_oldest_go_until_what_is_left_fits(folder, max_files, delete, keep):
    listing = list_files(folder)
    plan = plan_prune(listing, max_files * listing.files[0].num_bytes)
    assert (names(plan.delete), names(plan.keep), plan.fits) == (delete, keep, True)


def test_a_byte_too_little_takes_one_more(folder):
    listing = list_files(folder)
    assert names(plan_prune(listing, listing.num_bytes - 1).delete) == ["a.kv"]


def test_what_is_not_old_enough_stays_even_if_it_does_not_fit(folder):
    plan = plan_prune(list_files(folder), 0, older_than_seconds=1.5 * DAY, now=4 * DAY)
    assert (names(plan.delete), names(plan.keep), plan.fits) == (["a.kv", "c.kv"], ["b.kv"], False)


def test_pruning_deletes_what_the_plan_says_and_nothing_else(folder):
    plan = plan_prune(list_files(folder), plan_bytes := list_files(folder).files[0].num_bytes)
    assert [problem for _, problem in prune(plan)] == [None, None]
    assert left(folder) == ["b.kv", "precious.kv"]
    assert list_files(folder).num_bytes <= plan_bytes


def test_a_file_that_was_replaced_or_changed_since_stays(folder):
    plan = plan_prune(list_files(folder), 0)
    save(small_caches.full(), folder / "a.kv", force=True)
    (folder / "b.kv").unlink()
    (folder / "b.kv").symlink_to("precious.kv")
    (folder / "c.kv").unlink()
    found = {os.path.basename(file.path): problem for file, problem in prune(plan)}
    changed = "it changed meanwhile"
    assert found == {"a.kv": changed, "b.kv": changed, "c.kv": "No such file or directory"}
    assert left(folder) == ["a.kv", "b.kv", "precious.kv"]


def test_damaged_files_of_ours_go_by_their_age_too(folder):
    os.truncate(folder / "c.kv", (folder / "c.kv").stat().st_size - 1)
    os.utime(folder / "c.kv", (0, 0))
    listing = list_files(folder)
    assert names(plan_prune(listing, listing.num_bytes - 1).delete) == ["c.kv"]
