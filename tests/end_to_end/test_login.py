import psycopg

from tests.kit.stack import RunningProxy


async def test_psycopg_logs_in_without_a_password(proxy: RunningProxy) -> None:
    async with await psycopg.AsyncConnection.connect(proxy.dsn()) as connection:
        cursor = await connection.execute("select current_user, 1 + 1")
        assert await cursor.fetchall() == [("admin", 2)]
