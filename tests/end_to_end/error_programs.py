"""Programs that meet two errors and print what their driver shows of each.

Each connects, which fails, and prints a line of JSON; when it is told to go on, it
connects again, runs a statement that is interrupted, and prints another one.
"""

from typing import Final

_TELL: Final = """
import json, os, sys

def tell(shown):
    print(json.dumps(shown), flush=True)
    sys.stdin.readline()

"""

_OF_LIBPQ: Final = """
import DRIVER

def meet(*statements):
    try:
        connection = DRIVER.connect("")
        for statement in statements:
            connection.cursor().execute(statement)
    except DRIVER.Error as error:
        tell({"text": str(error), "sqlstate": error.CODE,
              "detail": error.diag.message_detail, "hint": error.diag.message_hint})

meet()
meet("select pg_sleep(4) -- by DRIVER.")
"""

_OF_ASYNCPG: Final = """
import asyncio, asyncpg

async def meet(*statements):
    try:
        connection = await asyncpg.connect()
        for statement in statements:
            await connection.execute(statement)
    except asyncpg.PostgresError as error:
        cause = error.__cause__ or error  # of an end in the middle of an operation
        tell({"text": str(error), "sqlstate": cause.sqlstate,
              "detail": cause.detail, "hint": cause.hint})

async def main():
    await meet()
    await meet("select pg_sleep(4) -- by asyncpg.")

asyncio.run(main())
"""

_OF_PG8000: Final = """
import pg8000.dbapi

def meet(*statements):
    try:
        host, port = os.environ["PGHOST"], int(os.environ["PGPORT"])
        path = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else None
        connection = pg8000.dbapi.connect(
            "admin", host=host, port=port, database="postgres", unix_sock=path)
        for statement in statements:
            connection.cursor().execute(statement)
    except pg8000.dbapi.Error as error:
        (said,) = error.args
        fields = said if isinstance(said, dict) else {}
        tell({"text": str(error), "sqlstate": fields.get("C"),
              "detail": fields.get("D"), "hint": fields.get("H")})

meet()
meet("select pg_sleep(4) -- by pg8000.")
"""


def _of_libpq(driver: str, code: str) -> str:
    return _TELL + _OF_LIBPQ.replace("DRIVER", driver).replace("CODE", code)


PYTHON: Final = {
    "psycopg": _of_libpq("psycopg", "sqlstate"),
    "psycopg2": _of_libpq("psycopg2", "pgcode"),
    "asyncpg": _TELL + _OF_ASYNCPG,
    "pg8000": _TELL + _OF_PG8000,
}

NODE: Final = """
const { Client } = require('pg');
const lines = require('readline').createInterface({ input: process.stdin });

async function meet(...statements) {
  const client = new Client();
  client.on('error', () => {});  // the end of the connection, after the error
  try {
    await client.connect();
    for (const statement of statements) await client.query(statement);
  } catch ({ message, code, detail, hint }) {
    console.log(JSON.stringify({ text: message, sqlstate: code, detail, hint }));
    await new Promise((resolve) => lines.once('line', resolve).once('close', resolve));
  }
}

(async () => {
  await meet();
  await meet('select pg_sleep(4) -- by node-postgres.');
  process.exit(0);
})();
"""

JAVA: Final = r"""
import java.sql.DriverManager;
import java.sql.SQLException;
import org.postgresql.util.PSQLException;

public class Errors {
  static String quoted(String text) {
    if (text == null) return "null";
    return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"")
        .replace("\n", "\\n") + '"';
  }

  static void meet(String... statements) throws Exception {
    var url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":"
        + System.getenv("PGPORT") + "/postgres?user=admin";
    try (var connection = DriverManager.getConnection(url)) {
      for (var sql : statements) connection.createStatement().execute(sql);
    } catch (SQLException error) {
      var said = ((PSQLException) error).getServerErrorMessage();
      System.out.println("{\"text\": " + quoted(error.getMessage())
          + ", \"sqlstate\": " + quoted(error.getSQLState())
          + ", \"detail\": " + quoted(said == null ? null : said.getDetail())
          + ", \"hint\": " + quoted(said == null ? null : said.getHint()) + "}");
      System.in.read();
    }
  }

  public static void main(String[] words) throws Exception {
    meet();
    meet("select pg_sleep(4) -- by pgjdbc.");
  }
}
"""
