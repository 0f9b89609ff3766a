"""A table is checked cell by cell, and a wrong one is refused with the column and the fix."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containers.tabular.features import AREA_CODES, FEATURES
from model_build.errors import BuildError
from model_build.tabular.data import Source, fetch, parse
from model_build.tabular.recipe import FileSource, S3Source
from model_build.tabular.schema import COLUMNS, column_key
from tests.unit.model_build.fake_s3 import FakeS3
from tests.unit.model_build.fake_s3 import s3 as s3

HEADER = [column.name for column in COLUMNS]
ROW = [
    "KS", "128", "415", "555-0100", "no", "yes", "25", "265.1", "110", "45.07", "197.4", "99", "16.78", "244.7",
    "91", "11.01", "10.0", "3", "2.7", "1", "False.",
]  # fmt: skip
LEFT = [*ROW[:-1], "True."]


def source(*rows: list[str], header: list[str] = HEADER) -> Source:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return Source("churn.csv", text.getvalue().encode(), "0" * 64)


def changed(column: str, value: str, row: list[str] = ROW) -> list[str]:
    return [value if name == column else cell for name, cell in zip(HEADER, row, strict=True)]


def test_a_row_becomes_the_features_in_the_contracts_order() -> None:
    table = parse(source(ROW, LEFT))
    assert table.features.dtype == np.float32
    assert dict(zip(FEATURES, table.features[0].tolist(), strict=True)) == pytest.approx(
        {
            "account_length": 128, "vmail_message": 25, "day_mins": 265.1, "day_calls": 110, "eve_mins": 197.4,
            "eve_calls": 99, "night_mins": 244.7, "night_calls": 91, "intl_mins": 10, "intl_calls": 3,
            "custserv_calls": 1, "area_code_408": 0, "area_code_415": 1, "area_code_510": 0, "intl_plan": 0,
            "vmail_plan": 1,
        }
    )  # fmt: skip
    assert table.labels.tolist() == [0, 1]
    assert table.states.tolist() == ["KS", "KS"]


def test_columns_match_by_letters_and_digits_in_any_order() -> None:
    other = ["Int l Plan" if name == "Int'l Plan" else name.upper().replace("?", "_") for name in HEADER]
    spelled, plain = parse(source(ROW[::-1], LEFT[::-1], header=other[::-1])), parse(source(ROW, LEFT))
    assert (spelled.features == plain.features).all()
    assert spelled.labels.tolist() == plain.labels.tolist()


@settings(max_examples=50)
@given(st.sampled_from(HEADER), st.text(alphabet=" '?_-.()", max_size=3))
def test_punctuation_and_case_never_change_a_columns_key(name: str, noise: str) -> None:
    assert column_key(noise + name.swapcase().replace(" ", noise) + noise) == column_key(name)


@pytest.mark.parametrize("yes", ["True.", "true", "YES", "1"])
@pytest.mark.parametrize("no", ["False.", "false", "No", "0"])
def test_churn_is_understood_in_all_its_spellings(yes: str, no: str) -> None:
    assert parse(source(changed("Churn?", yes), changed("Churn?", no))).labels.tolist() == [1, 0]


def test_duplicate_rows_spaces_and_a_byte_order_mark_are_tolerated() -> None:
    padded = [f" {cell} " for cell in ROW]
    plain = source(ROW, ROW, padded, LEFT)
    table = parse(Source(plain.name, b"\xef\xbb\xbf" + plain.content, plain.sha256))
    assert len(table.labels) == 4
    assert (table.features[0] == table.features[2]).all()


def test_an_area_code_that_has_no_feature_leaves_them_all_zero_and_is_counted() -> None:
    table = parse(source(changed("Area Code", "806"), LEFT))
    assert table.features[0, [FEATURES.index(f"area_code_{code}") for code in AREA_CODES]].tolist() == [0, 0, 0]
    assert table.other_area_codes == 1


@pytest.mark.parametrize(
    ("given_source", "message"),
    [
        (Source("churn.csv", b"", ""), r"churn\.csv is empty; provide a CSV"),
        (Source("churn.csv", b" \n\n", ""), r"churn\.csv is empty"),
        (source(), "has a header but no rows"),
        (Source("churn.csv", b"State\n\xe9", ""), "is not UTF-8: byte 6 is 0xe9; save the table"),
        (source([*ROW, "9"]), "cannot be read as CSV: .*the same number of cells as the header"),
        (source(ROW, [*ROW, "9"]), "cannot be read as CSV: .*line 3"),
        (source(ROW[:-1]), r"column 'Churn\?', row 1 after the header: '' is empty; fill it in"),
        (source(ROW[2:], header=HEADER[2:]), r"missing columns: State, Account Length; it has Area Code"),
        (source([*ROW, "1", "2"], header=[*HEADER, "Total", "Plan B"]), "unknown columns: Total, Plan B"),
        (source([*ROW, "1"], header=[*HEADER, "Intl Plan"]), "\"Int'l Plan\" and 'Intl Plan'; keep one"),
        (source(ROW, changed("Day Mins", "many")), "column 'Day Mins', row 2 after the header: 'many' is not a number"),
        (source(changed("Day Mins", "inf")), "'inf' is not a number"),
        (source(changed("Day Mins", "nan")), "'nan' is not a number"),
        (source(changed("Day Mins", "1e39")), "'1e39' is not a number"),
        (source(changed("Day Mins", "")), "column 'Day Mins', row 1 after the header: '' is empty"),
        (source(changed("Day Charge", "x")), "column 'Day Charge'"),
        (source(changed("Day Calls", "9.5")), "'9.5' is not a whole number; check that the columns are not shifted"),
        (source(changed("Phone", " ")), "column 'Phone', row 1 after the header: '' is empty"),
        (
            source(ROW, *[changed("Int'l Plan", "maybe")] * 3),
            r"column \"Int'l Plan\", row 2 after the header: 'maybe' is neither yes nor no \(and 2 more rows\)",
        ),
        (source(changed("Churn?", "perhaps")), r"'perhaps' is neither.*True\./False\., true/false, yes/no and 1/0"),
        (
            source(changed("State", "ks"), changed("State", "PR")),
            "unknown states: 'PR', 'ks'; use one of the 51 two-letter codes in capitals: AK, AL",
        ),
        (source(ROW, ROW), r"column 'Churn\?' is False in all 2 rows; a model needs"),
    ],
)
def test_a_wrong_table_is_refused_with_the_column_the_finding_and_the_fix(given_source: Source, message: str) -> None:
    with pytest.raises(BuildError, match=message) as raised:
        parse(given_source)
    assert "churn.csv" in str(raised.value)


def test_a_file_is_read_and_a_missing_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "churn.csv"
    path.write_bytes(source(ROW, LEFT).content)
    assert parse(fetch(FileSource(path=str(path)))).labels.tolist() == [0, 1]
    with pytest.raises(BuildError, match=r"source\.path: '.*other\.csv' cannot be read: No such file"):
        fetch(FileSource(path=str(tmp_path / "other.csv")))


def test_an_object_is_read_and_a_missing_one_is_named(s3: FakeS3) -> None:
    s3.objects["bucket/a/churn #1.txt"] = source(ROW, LEFT).content
    assert parse(fetch(S3Source(url="s3://bucket/a/churn #1.txt"))).labels.tolist() == [0, 1]
    with pytest.raises(BuildError, match=r"source\.url: 's3://bucket/none' cannot be read: .*NoSuchKey.*s3:GetObject"):
        fetch(S3Source(url="s3://bucket/none"))
