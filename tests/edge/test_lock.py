"""Two locks as one: what was learned is added, and bytes that differ are an error naming both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.lock import LockedFile, LockedModel, LockError, Output, Source, merge, merge_model

A, B = "a" * 64, "b" * 64
SHIPPED = LockedModel(
    "m-1b",
    licence="mit",
    config={"hidden_size": 8},
    sources=(Source("huggingface", "org/M-1B", "rev1"), Source("modelscope", "org/M-1B")),
    files=(LockedFile("model.safetensors", 10, A),),
    outputs=(Output("Q8_0", "0.1.0", "x86_64", "0.3.36 AVX2", A),),
)


def test_what_was_learned_is_added() -> None:
    config = LockedFile("config.json", 3, B)
    learned = LockedModel(
        "m-1b",
        licence="another wording",
        context_length=4096,
        config={"hidden_size": 8, "head_dim": 4},
        sources=(Source("modelscope", "Org/m-1b", "master"), Source("huggingface", "org/M-1B", "rev2")),
        files=(SHIPPED.files[0], config),
        outputs=(Output("Q8_0", "0.1.0", "arm64", "0.3.36 NEON", B),),
    )
    merged = merge({"m-1b": SHIPPED}, {"m-1b": learned})["m-1b"]
    assert merged.files == (*SHIPPED.files, config)
    assert (merged.licence, merged.context_length) == ("mit", 4096)
    assert merged.config == {"hidden_size": 8, "head_dim": 4}
    assert merged.sources == (SHIPPED.sources[0], learned.sources[0]), "the shipped revision stays, a missing one comes"
    assert [output.cpu for output in merged.outputs] == ["x86_64", "arm64"]


def test_merging_twice_changes_nothing() -> None:
    assert merge_model(SHIPPED, SHIPPED) == SHIPPED


@pytest.mark.parametrize(
    ("file", "values"),
    [
        (LockedFile("model.safetensors", 10, B), (A, B)),
        (LockedFile("model.safetensors", 11, A), ("10", "11")),
    ],
)
def test_other_bytes_are_an_error_that_names_both(file: LockedFile, values: tuple[str, str]) -> None:
    with pytest.raises(LockError, match=r"m-1b: .* of model\.safetensors is locked as") as caught:
        merge({"m-1b": SHIPPED}, {"m-1b": replace(SHIPPED, files=(file,))})
    assert all(value in str(caught.value) for value in values)


def test_another_output_of_the_same_making_is_an_error_that_names_both() -> None:
    other = replace(SHIPPED.outputs[0], sha256=B)
    with pytest.raises(LockError, match="Q8_0") as caught:
        merge_model(SHIPPED, replace(SHIPPED, outputs=(other,)))
    assert A in str(caught.value) and B in str(caught.value)


@pytest.mark.parametrize("field", ["level", "converter", "cpu", "library"])
def test_outputs_are_compared_like_with_like(field: str) -> None:
    """Kernels round differently on another CPU: its file is another result, not a damaged one."""
    other = replace(SHIPPED.outputs[0], sha256=B, **{field: "other"})
    assert merge_model(SHIPPED, replace(SHIPPED, outputs=(other,))).outputs == (*SHIPPED.outputs, other)


def test_a_model_of_the_users_own_is_kept() -> None:
    own = LockedModel("me--mine", sources=(Source("huggingface", "me/mine"),))
    assert merge({"m-1b": SHIPPED}, {own.name: own}) == {"m-1b": SHIPPED, "me--mine": own}


def test_a_repository_locked_before_it_was_shipped_still_counts() -> None:
    """Hashes learned under org--repo would be forgotten once a release ships the repository under its plain name."""
    learned = LockedModel(
        "org--m-1b", sources=(Source("huggingface", "ORG/m-1b"),), files=(LockedFile("config.json", 3, B),)
    )
    merged = merge({"m-1b": SHIPPED}, {"org--m-1b": learned})
    assert list(merged) == ["m-1b"]
    assert {file.name for file in merged["m-1b"].files} == {"model.safetensors", "config.json"}
    with pytest.raises(LockError, match="is locked as"):
        damaged = replace(learned, files=(LockedFile("model.safetensors", 10, B),))
        merge({"m-1b": SHIPPED}, {"org--m-1b": damaged})
