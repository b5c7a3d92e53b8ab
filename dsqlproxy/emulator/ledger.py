"""What PostgreSQL is given so that it can keep DSQL's rules itself. No I/O.

Theory. A rule about a transaction (one DDL statement, no DDL with DML, 3,000 rows)
needs to know what the transaction did so far, and only PostgreSQL knows that: a
statement that fails did nothing, a rollback forgets, a pipeline runs on after we
have sent it. So the rules engine keeps no account of its own. It sends a CALL before
a statement, and one after it, within the same transaction, explicit or implicit:

* What kind of statements a transaction ran is written in a setting of our own, set
  for the transaction (``is_local``): PostgreSQL forgets it at COMMIT and ROLLBACK.
* How many rows it modified is read from PostgreSQL's own counters of the running
  transaction (``pg_stat_get_xact_tuples_…``), less what they showed at its first
  DML, since earlier transactions may not have been reported yet. Rows that
  foreign keys delete or update, and rows modified by functions, count as well.
  The rows of tables in the schema ``sys`` do not.
* A procedure that finds a rule broken raises. In autocommit that rolls back the
  implicit transaction, since the CALL is part of it: the statement before it, whose
  success was held back, has not happened. In a failed transaction the CALL fails
  with 25P02 like any other statement.
* A conflict that a cluster would find at COMMIT is a deferred constraint trigger
  that raises at COMMIT: the transaction really rolls back, with 40001.

Known difference: a statement that modifies more rows than allowed runs to its end
before it is refused, and RETURNING has sent its rows by then.
"""

from typing import Final

from dsqlproxy.dsql import ACCEPTED_PARAMETERS
from dsqlproxy.emulator.refusals import Refusal
from dsqlproxy.emulator.statements import IamMapping
from dsqlproxy.emulator.wordings import (
    DEFAULT_OPTIONS,
    SERVER_VERSION,
    SERVER_VERSION_NUM,
    STAND_INS,
    UNJUDGED_PARAMETERS,
)

# AWS documentation (quotas); observed on a cluster: 3,000 rows pass and 3,001 fail,
# with this text, in a transaction block and in autocommit.
MAX_ROWS: Final = 3000
_ROW_LIMIT_EXCEEDED: Final = "transaction row limit exceeded"

# Observed on a cluster.
_TWO_DDL: Final = "multiple ddl statements not supported in a transaction"
_DDL_AND_DML: Final = "ddl and dml are not supported in the same transaction"
_CONFLICT: Final = "change conflicts with another transaction (OC000)"
SCHEMA_CHANGED: Final = Refusal(
    "schema has been updated by another transaction (OC001)", "40001"
)

PROCEDURE_MARK: Final = "emulator_"
"""Occurs in the context of an error that one of our procedures raised."""

BACKEND_PARAMETERS: Final = (
    ("default_transaction_isolation", "repeatable read"),
    ("options", DEFAULT_OPTIONS),
)
"""Startup parameters with which a session behind the rules begins."""

_NOTE: Final = "'dsql_emulator.transaction'"
_STAND_INS: Final = " ".join(
    f"WHEN '{name}' THEN '{stand_in}'" for name, stand_in in STAND_INS.items()
)
_SETTABLE: Final = ", ".join(
    f"'{name}'" for name in sorted(ACCEPTED_PARAMETERS | UNJUDGED_PARAMETERS)
)

SETUP_SQL: Final = (
    "CREATE SCHEMA IF NOT EXISTS sys",
    "GRANT USAGE ON SCHEMA sys TO PUBLIC",
    # -- settings that PostgreSQL knows by another name, or not at all
    f"""
    CREATE OR REPLACE FUNCTION sys.emulator_setting(name text) RETURNS text
    LANGUAGE sql IMMUTABLE AS $$
        SELECT CASE lower(name) {_STAND_INS} ELSE name END
    $$
    """,
    f"""
    CREATE OR REPLACE FUNCTION sys.emulator_settable(name text) RETURNS text
    LANGUAGE plpgsql AS $$
    BEGIN
        IF lower(name) NOT IN ({_SETTABLE}) THEN
            CALL sys.emulator_refuse('0A000', format(
                'setting configuration parameter "%s" not supported', name
            ));
        END IF;
        RETURN sys.emulator_setting(name);
    END $$
    """,
    # -- what a session shows of itself
    f"""
    CREATE OR REPLACE FUNCTION sys.version() RETURNS text
    LANGUAGE sql STABLE AS $$ SELECT 'PostgreSQL {SERVER_VERSION.split(".")[0]}' $$
    """,
    f"""
    CREATE OR REPLACE FUNCTION sys.current_setting(
        name text, missing_ok boolean DEFAULT false
    ) RETURNS text LANGUAGE sql STABLE AS $$
        SELECT CASE lower(name)
            WHEN 'server_version' THEN '{SERVER_VERSION}'
            WHEN 'server_version_num' THEN '{SERVER_VERSION_NUM}'
            ELSE pg_catalog.current_setting(sys.emulator_setting(name), missing_ok)
        END
    $$
    """,
    # A name that is no literal is judged here; that a cluster judges it by its value,
    # when it is called, is inferred.
    """
    CREATE OR REPLACE FUNCTION sys.set_config(
        name text, new_value text, is_local boolean
    ) RETURNS text LANGUAGE sql AS $$
        SELECT pg_catalog.set_config(
            sys.emulator_settable(name), new_value, is_local
        )
    $$
    """,
    # -- the rules of a transaction
    """
    CREATE OR REPLACE PROCEDURE sys.emulator_refuse(code text, message text)
    LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message;
    END $$
    """,
    """
    CREATE OR REPLACE FUNCTION sys.emulator_row_count() RETURNS bigint
    LANGUAGE sql VOLATILE AS $$
        SELECT coalesce(sum(
            pg_stat_get_xact_tuples_inserted(oid)
            + pg_stat_get_xact_tuples_updated(oid)
            + pg_stat_get_xact_tuples_deleted(oid)
        ), 0)::bigint
        FROM pg_catalog.pg_class
        WHERE oid >= 16384 AND relkind = 'r'
            AND relnamespace <> 'sys'::pg_catalog.regnamespace
    $$
    """,
    f"""
    CREATE OR REPLACE PROCEDURE sys.emulator_ddl() LANGUAGE plpgsql AS $$
    DECLARE noted text := coalesce(pg_catalog.current_setting({_NOTE}, true), '');
    BEGIN
        IF noted = 'ddl' THEN
            CALL sys.emulator_refuse('0A000', '{_TWO_DDL}');
        ELSIF noted <> '' THEN
            CALL sys.emulator_refuse('0A000', '{_DDL_AND_DML}');
        END IF;
        PERFORM pg_catalog.set_config({_NOTE}, 'ddl', true);
    END $$
    """,
    f"""
    CREATE OR REPLACE PROCEDURE sys.emulator_dml(conflict boolean)
    LANGUAGE plpgsql AS $$
    DECLARE noted text := coalesce(pg_catalog.current_setting({_NOTE}, true), '');
    BEGIN
        IF noted = 'ddl' THEN
            CALL sys.emulator_refuse('0A000', '{_DDL_AND_DML}');
        ELSIF noted = '' THEN
            PERFORM pg_catalog.set_config(
                {_NOTE}, sys.emulator_row_count()::text, true
            );
            IF conflict THEN
                PERFORM sys.emulator_conflict();
            END IF;
        END IF;
    END $$
    """,
    f"""
    CREATE OR REPLACE PROCEDURE sys.emulator_rows() LANGUAGE plpgsql AS $$
    DECLARE before bigint := pg_catalog.current_setting({_NOTE});
    BEGIN
        IF sys.emulator_row_count() - before > {MAX_ROWS} THEN
            CALL sys.emulator_refuse('54000', '{_ROW_LIMIT_EXCEEDED}');
        END IF;
    END $$
    """,
    # -- a conflict that shows at COMMIT
    "CREATE TABLE IF NOT EXISTS sys.emulator_conflicts ()",
    f"""
    CREATE OR REPLACE FUNCTION sys.emulator_raise_conflict() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION USING ERRCODE = '40001', MESSAGE = '{_CONFLICT}';
    END $$
    """,
    """
    CREATE OR REPLACE FUNCTION sys.emulator_conflict() RETURNS void
    LANGUAGE sql SECURITY DEFINER AS $$
        INSERT INTO sys.emulator_conflicts DEFAULT VALUES
    $$
    """,
    "DROP TRIGGER IF EXISTS emulator_conflict ON sys.emulator_conflicts",
    """
    CREATE CONSTRAINT TRIGGER emulator_conflict AFTER INSERT
    ON sys.emulator_conflicts DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION sys.emulator_raise_conflict()
    """,
    # -- asynchronous jobs; the columns of sys.jobs were observed on a cluster
    """
    CREATE TABLE IF NOT EXISTS sys.emulator_jobs (
        job_id text PRIMARY KEY, status text, details text, job_type text,
        class_id oid, object_id oid, object_name text,
        start_time timestamptz DEFAULT now(), update_time timestamptz DEFAULT now()
    )
    """,
    "CREATE OR REPLACE VIEW sys.jobs AS SELECT * FROM sys.emulator_jobs",
    "GRANT SELECT ON sys.jobs TO PUBLIC",
    """
    CREATE OR REPLACE PROCEDURE sys.emulator_job(id text, kind text)
    LANGUAGE sql SECURITY DEFINER AS $$
        INSERT INTO sys.emulator_jobs
            (job_id, status, job_type, class_id, object_id, object_name)
        SELECT id, 'completed', kind, 'pg_catalog.pg_class'::regclass, made.oid,
            made.name
        FROM (VALUES (1)) AS one LEFT JOIN (
            SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name
            FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'i' AND c.xmin = pg_current_xact_id()::xid
            ORDER BY c.oid DESC LIMIT 1
        ) AS made ON true
    $$
    """,
    # Seen in public programs that run against a cluster: a procedure, not a
    # function, that answers a row with the column `succeeded`.
    """
    CREATE OR REPLACE PROCEDURE sys.wait_for_job(
        job text, IN OUT succeeded boolean DEFAULT NULL
    ) LANGUAGE plpgsql AS $$
    BEGIN
        SELECT status = 'completed' INTO succeeded FROM sys.jobs WHERE job_id = job;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = '42704',
                MESSAGE = format('job "%s" does not exist', job);
        END IF;
    END $$
    """,
    # -- IAM; `iam_oid`, `arn` and `pg_role_name` are the columns that public programs
    # read, the others are inferred
    """
    CREATE TABLE IF NOT EXISTS sys.emulator_iam (
        iam_oid int GENERATED ALWAYS AS IDENTITY, arn text, pg_role_name name,
        grantor_pg_role_name name DEFAULT session_user, UNIQUE (arn, pg_role_name)
    )
    """,
    """
    CREATE OR REPLACE VIEW sys.iam_pg_role_mappings AS
    SELECT m.iam_oid::oid AS iam_oid, m.arn, r.oid AS pg_role_oid, m.pg_role_name,
        g.oid AS grantor_pg_role_oid, m.grantor_pg_role_name
    FROM sys.emulator_iam m
    JOIN pg_catalog.pg_roles r ON r.rolname = m.pg_role_name
    LEFT JOIN pg_catalog.pg_roles g ON g.rolname = m.grantor_pg_role_name
    """,
    "GRANT SELECT ON sys.iam_pg_role_mappings TO PUBLIC",
    """
    CREATE OR REPLACE PROCEDURE sys.emulator_iam_grant(role text, principal text)
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        PERFORM role::pg_catalog.regrole;
        INSERT INTO sys.emulator_iam (arn, pg_role_name) VALUES (principal, role)
        ON CONFLICT DO NOTHING;
    END $$
    """,
    """
    CREATE OR REPLACE PROCEDURE sys.emulator_iam_revoke(role text, principal text)
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        DELETE FROM sys.emulator_iam WHERE arn = principal AND pg_role_name = role;
    END $$
    """,
)
"""Run once, in order, by a superuser, before the first session. May be repeated."""

NOTE_DDL: Final = "CALL sys.emulator_ddl()"
CHECK_ROWS: Final = "CALL sys.emulator_rows()"


def note_dml(*, conflict: bool) -> str:
    """Note a statement that modifies rows; ``conflict`` fails its COMMIT."""
    return f"CALL sys.emulator_dml({'true' if conflict else 'false'})"


def refuse(refusal: Refusal) -> str:
    """Raise."""
    return _call("refuse", refusal.sqlstate, refusal.message)


def record_job(job_id: str, kind: str) -> str:
    """Put a finished job into ``sys.jobs``."""
    return _call("job", job_id, kind)


def change_mapping(mapping: IamMapping) -> str:
    """Do what AWS IAM GRANT or REVOKE says."""
    verb = "iam_grant" if mapping.is_grant else "iam_revoke"
    return _call(verb, mapping.role, mapping.arn)


def _call(procedure: str, *arguments: str) -> str:
    literals = ("'" + argument.replace("'", "''") + "'" for argument in arguments)
    return f"CALL sys.{PROCEDURE_MARK}{procedure}({', '.join(literals)})"
