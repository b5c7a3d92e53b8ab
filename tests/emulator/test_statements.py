import pytest
from hypothesis import given, strategies as st

from dsqlproxy.emulator.sql import split
from dsqlproxy.emulator.statements import Answer, IamMapping, Kind, Verdict, judge


def _judge(sql: str) -> Verdict:
    (statement,) = split(sql)
    return judge(statement)


def _edited(sql: str) -> str:
    text = sql
    for edit in reversed(_judge(sql).edits):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


@given(
    st.lists(
        st.sampled_from(
            [
                *("create", "table", "(", ")", ",", "add", "alter", "type", "as", "is"),
                *("explain", "analyze", "set", "local", "to", "with", "copy", "from"),
                *("for", "x", "'s'", '"q"', "1", ".", "[", "]", "async", "index", "="),
                *("aws", "iam", "grant", "isolation", "level", "version", "show"),
                *("default", "cache", "generated", "identity", "int", "alter", "role"),
            ]
        ),
        min_size=1,
        max_size=12,
    )
)
def test_noise_is_judged_without_an_exception(words: list[str]) -> None:
    for statement in split(" ".join(words)):
        judge(statement)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("select 1", Kind.READ),
        ("(select 1) union (select 2)", Kind.READ),
        ("values (1)", Kind.READ),
        ("table t", Kind.READ),
        ("with x as (select 1) select * from x", Kind.READ),
        ("with insert as (select 1) select * from insert", Kind.READ),
        ("with x as (delete from t returning *) select * from x", Kind.WRITE),
        ("with x as (select 1) insert into t select * from x", Kind.WRITE),
        ("with recursive x as (select 1) update t set a = 1", Kind.WRITE),
        ("with x as (select 1) (select 2)", Kind.READ),
        ("insert into t values (1)", Kind.WRITE),
        ("explain insert into t values (1)", Kind.OTHER),
        ("explain (costs off) insert into t values (1)", Kind.OTHER),
        ("explain analyze verbose insert into t values (1)", Kind.WRITE),
        ("explain (analyze, buffers) delete from t", Kind.WRITE),
        ("explain (select 1)", Kind.OTHER),
        ("explain", Kind.OTHER),
        ("copy t from stdin", Kind.COPY_IN),
        ("copy t (a, b) from stdin with (format csv)", Kind.COPY_IN),
        ("copy t to stdout", Kind.READ),
        ("copy (select a from t) to stdout", Kind.READ),
        ("copy (delete from t returning a) to stdout", Kind.WRITE),
        ("create table t (a int)", Kind.DDL),
        ("grant select on t to r", Kind.DDL),
        ("comment on table t is 'x'", Kind.DDL),
        ("begin", Kind.OTHER),
        ("show all", Kind.OTHER),
        ("set search_path = x", Kind.OTHER),
        ("analyze t", Kind.OTHER),
        ("call sys.wait_for_job('x')", Kind.OTHER),
        ("nonsense", Kind.OTHER),
    ],
)
def test_statements_are_counted_as_what_they_do(sql: str, kind: Kind) -> None:
    assert _judge(sql).kind is kind


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("create index async i on t (a)", "create index  i on t (a)"),
        ("CREATE UNIQUE INDEX ASYNC ON t (a)", "CREATE UNIQUE INDEX  ON t (a)"),
        (
            "alter table async t validate constraint c",
            "alter table  t validate constraint c",
        ),
        ("alter table async add column a int", "alter table async add column a int"),
        ("select version()", "select sys.version()"),
        ("select pg_catalog.version() as v", "select sys.version() as v"),
        ("select other.version()", "select other.version()"),
        ("select version(1)", "select version(1)"),
        ("select version from t", "select version from t"),
        (
            "select current_setting('server_version'), current_setting('TimeZone')",
            "select sys.current_setting('server_version'), current_setting('TimeZone')",
        ),
        ("select current_setting('Server_Version_Num', true)::int / 10000",
         "select sys.current_setting('Server_Version_Num', true)::int / 10000"),
        ("select 'version()'", "select 'version()'"),
    ],
)  # fmt: skip
def test_only_what_dsql_words_otherwise_is_reworded(sql: str, text: str) -> None:
    assert _edited(sql) == text


def test_asynchronous_statements_answer_a_job() -> None:
    index = _judge("create index async i on t (a)")
    validation = _judge("alter table async t validate constraint c")
    assert (index.answer, index.job_type) == (Answer.JOB, "INDEX_BUILD")
    assert validation.job_type == "VALIDATE_CONSTRAINT"
    assert validation.refusal is None


@pytest.mark.parametrize(
    ("sql", "mapping"),
    [
        ("AWS IAM GRANT reader TO 'arn:x'", IamMapping(True, "reader", "arn:x")),
        ("aws iam revoke \"Re\" from 'arn:x';", IamMapping(False, "Re", "arn:x")),
        ("aws iam grant reader from 'arn:x'", None),
        ("aws iam grant 1 to 'arn:x'", None),
        ("aws iam grant", None),
        ("grant reader to x", None),
    ],
)
def test_iam_mappings_are_read(sql: str, mapping: IamMapping | None) -> None:
    assert _judge(sql).mapping == mapping
