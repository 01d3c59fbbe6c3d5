"""Suites for the plugin that run in one way only: synchronous ones, loops of their own, and marked tests."""

from __future__ import annotations

from tests.plugins.suites import HEADS

SYNCHRONOUS = (
    HEADS
    + """
def test_idle():
    held.append(new_engine().connect())  # idle


def test_transaction():
    connection = new_engine().connect()  # transaction
    connection.execute(text("create table if not exists things (name text)"))
    connection.execute(text("insert into things values ('one')"))
    held.append(connection)


def test_dropped():
    connection = new_engine().connect()  # dropped
    cycle = [connection]
    cycle.append(cycle)


def test_forgotten():
    new_engine().connect()  # forgotten


def test_raw():
    held.append(new_engine().raw_connection())  # raw


def test_thread():
    engine = new_engine()

    def work():
        held.append(engine.connect())  # thread

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_held_ones_stay_as_they_are():
    idle, transaction, raw, thread = held
    assert [one.execute(text("select 1")).scalar() for one in (idle, transaction, thread)] == [1, 1, 1]
    assert transaction.execute(text("select count(*) from things")).scalar() == 1
    assert raw.is_valid


def test_innocent():
    with new_engine().connect() as connection:
        connection.execute(text("select 1"))
"""
)


ASYNCIO_RUN = (
    HEADS
    + """
async def main():
    working = asyncio.Event()

    async def work():
        async with new_async_engine().connect():  # run
            working.set()
            await asyncio.Event().wait()

    held.append(asyncio.create_task(work()))
    await working.wait()


def test_run():
    asyncio.run(main())
"""
)


TEST_CASES = (
    HEADS
    + """
class Synchronous(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.listener = new_engine().connect()

    @classmethod
    def tearDownClass(cls):
        cls.listener.close()

    def setUp(self):
        self.connection = new_engine().connect()

    def tearDown(self):
        self.connection.close()

    def test_leaks(self):
        held.append(new_engine().connect())  # test case

    def test_innocent(self):
        self.connection.execute(text("select 1"))


class Asynchronous(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.engine = new_async_engine()
        self.connection = await self.engine.connect()

    async def asyncTearDown(self):
        await self.connection.close()
        await self.engine.dispose()

    async def test_leaks(self):
        held.append(await self.engine.connect())  # asynchronous test case

    async def test_innocent(self):
        await self.connection.execute(text("select 1"))
"""
)


ROUTES = """
async def test_route(postgres):
    import httpx
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def show(request):
        session = AsyncSession(postgres)
        await session.execute(text("select 1"))  # route
        held.append(session)
        return PlainTextResponse("")

    app = OwnerMiddleware(Starlette(routes=[Route("/orders/{number}", show)]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        await client.get("/orders/7")
"""


MARKED = (
    HEADS
    + """
def leak():
    held.append(new_engine().connect())


@pytest.fixture
def leaking():
    leak()


def test_unasked():
    leak()


def test_by_name(leaking, no_pool_leaks):
    pass


@pytest.mark.usefixtures("leaking", "no_pool_leaks")
def test_by_usefixtures():
    pass


@pytest.mark.no_pool_leaks
def test_by_mark(leaking):
    pass


def test_by_request(request):
    request.getfixturevalue("no_pool_leaks")
    leak()


@pytest.mark.no_pool_leaks
@pytest.mark.pool_leaks_allowed
def test_allowed(no_pool_leaks):
    leak()


@pytest.mark.no_pool_leaks
class TestClass:
    def test_innocent(self):
        pass

    @pytest.mark.pool_leaks_allowed
    def test_allowed(self, leaking):
        pass
"""
)
