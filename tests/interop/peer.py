"""A process of the real AgentScope on Redis, told what to do by JSON lines.

It is AgentScope's own message bus, background task manager, dispatchers, middlewares and tools; what is missing is the
model and HTTP. A command on stdin is {"id": n, "do": name, ...arguments}, its answer on stdout {"id": n, "ok": value} or
{"id": n, "error": text}. Commands run side by side, so that one may wait for another. What happens by itself is told
as {"event": name, ...}; the first such line is {"event": "ready"}.
"""

import asyncio
import contextlib
import json
import sys
import time
import urllib.parse
import uuid
from types import SimpleNamespace

from agentscope.agent import Agent
from agentscope.app import _bus_ops as bus_ops
from agentscope.app._manager import (
    BackgroundTaskManager,
    CancelDispatcher,
    ChatRunRegistry,
    WakeupDispatcher,
)
from agentscope.app._service import ChatService, SessionService
from agentscope.app.message_bus import MessageBusKeys, RedisMessageBus
from agentscope.app.middleware import InboxMiddleware, ToolOffloadMiddleware
from agentscope.message import HintBlock, ToolCallBlock
from agentscope.state import AgentState
from agentscope.tool import FunctionTool, Toolkit, ToolChunk

PATIENCE_SECS = 30.0
OUT = sys.stdout


def tell(**line):
    OUT.write(json.dumps(line) + "\n")
    OUT.flush()


class Storage:
    """All sessions there are, for whoever asks."""

    async def get_session(self, _user_id, _agent_id, session_id):
        return SimpleNamespace(state=AgentState(session_id=session_id))


class Chat(ChatService):
    """Runs without a model: they take in what there is, by the same steps as ChatService.run."""

    def __init__(self, bus, manager, gates):
        super().__init__(Storage(), None, None, manager, bus, None)
        self._gates = gates

    async def run(self, user_id, session_id, agent_id, input_msg=None, gate=None):
        bus = self._message_bus
        who = {"user_id": user_id, "session_id": session_id, "agent_id": agent_id}
        run_lock = MessageBusKeys.session_lock(session_id)
        async with bus.acquire_lock(run_lock, ttl_secs=MessageBusKeys.SESSION_RUN_TTL_SECS):
            await bus_ops.register_inbox_consumer(bus, session_id)
            tell(event="run", **who, input=input_msg and input_msg.model_dump(mode="json"))
            released = False
            try:
                if gate is not None:
                    await self._gates[gate].wait()
                while not released:
                    try:
                        tell(event="hints", **who, hints=await read_inbox(bus, session_id))
                    except Exception as error:
                        tell(event="hints lost", **who, error=repr(error))
                    released = not await bus_ops.has_pending_inbox_or_release(bus, session_id)
            except asyncio.CancelledError:
                tell(event="run cancelled", **who)
                raise
            finally:
                if not released:
                    await bus_ops.abandon_inbox_consumer(bus, **who)
        tell(event="run ended", **who)


def agent_of(session, agent="agent", **parts):
    # The model is asked only for a reply.
    return Agent(agent, "", model=None, state=AgentState(session_id=session), **parts)


async def read_inbox(bus, session, max_count=100):
    """The hints as they reach an agent's context: drained and validated by AgentScope."""

    async def no_model():
        return
        yield

    agent = agent_of(session)
    async for _ in InboxMiddleware(bus, max_count).on_reasoning(agent, {}, no_model):
        pass
    return [block.model_dump(mode="json") for message in agent.state.context for block in message.content]


class Gates(dict):
    """What work waits for, by name."""

    def __missing__(self, name):
        self[name] = asyncio.Event()
        return self[name]


class Peer:
    def __init__(self, url, resources):
        at = urllib.parse.urlsplit(url)
        # The name tells this peer's connections from those of others.
        self.name = f"peer-{uuid.uuid4().hex}"
        self.bus = RedisMessageBus(
            host=at.hostname, port=at.port or 6379, db=int(at.path.strip("/") or 0), client_name=self.name
        )
        self.resources = resources
        self.gates = Gates()
        self.locks = {}
        self.listening = {}
        self.waker = None

    async def start(self):
        enter = self.resources.enter_async_context
        await enter(self.bus)
        self.manager = await enter(BackgroundTaskManager(self.bus))
        self.runs = await enter(ChatRunRegistry())
        self.chat = Chat(self.bus, self.manager, self.gates)
        self.sessions = SessionService(Storage(), self.bus)
        self.canceller = await enter(CancelDispatcher(self.bus, self.runs, self.manager))
        await self.acknowledged(3)

    async def subscriptions(self):
        clients = await self.bus.get_client().client_list(_type="pubsub")
        return sum(client["name"] == self.name and client["sub"] == "1" for client in clients)

    async def acknowledged(self, count):
        """AgentScope says that it is ready before the server has taken note of it."""
        deadline = time.monotonic() + PATIENCE_SECS
        while await self.subscriptions() < count:
            if time.monotonic() > deadline:
                raise TimeoutError("the subscriptions are not acknowledged")
            await asyncio.sleep(0.01)

    async def work(self, secs=None, gate=None):
        if gate is not None:
            await self.gates[gate].wait()
        if secs is not None:
            await asyncio.sleep(secs)

    # Commands.

    async def do_bus(self, op, args=(), options=None):
        """Any operation of AgentScope's bus."""
        return await getattr(self.bus, op)(*args, **(options or {}))

    async def do_redis(self, args):
        """Any command of Redis: for what AgentScope itself would never send. {"hex": text} stands for bytes."""
        args = [bytes.fromhex(arg["hex"]) if isinstance(arg, dict) else arg for arg in args]
        return await self.bus.get_client().execute_command(*args)

    async def do_open(self, gate):
        self.gates[gate].set()

    async def do_register(self, session, tool="tool", user="alice", agent="agent", **work):
        """A task of the background task manager, that is done when its gate opens or its time is up."""
        task = asyncio.create_task(self.work(**work))
        task_id = await self.manager.register_task(task, session, agent, user, tool)
        task.add_done_callback(
            lambda done: tell(event="ended", task_id=task_id, how="cancelled" if done.cancelled() else "finished")
        )
        return task_id

    async def do_call_tool(
        self, session, tool, call_id, user="alice", agent="agent", timeout_secs=0.1, content=(), raises=None, **work
    ):
        """A tool call of a real agent, through the real offload middleware; all that the agent gets for it."""

        async def function():
            await self.work(**work)
            if raises is not None:
                raise RuntimeError(raises)
            return ToolChunk(content=list(content))

        middleware = ToolOffloadMiddleware(self.manager, self.bus, user, agent, timeout_secs)
        toolkit = Toolkit(tools=[FunctionTool(function, name=tool, description="A tool.")])
        caller = agent_of(session, agent, toolkit=toolkit, middlewares=[middleware])
        call = ToolCallBlock(id=call_id, name=tool, input="{}")
        return [item.model_dump(mode="json") async for item in caller._acting(call)]

    async def do_list(self, session):
        tasks = await self.bus.registry_getall(MessageBusKeys.bg_tasks(session))
        return {task_id: json.loads(task) for task_id, task in tasks.items()}

    async def do_tool_stop(self, session, task_id):
        (tool,) = await self.manager.list_tools(session)
        answer = await tool(task_id=task_id)
        return {"state": answer.state, "text": answer.content[0].text}

    async def do_cancel_session(self, session, timeout=5.0):
        """Whether the run of the session has ended."""
        return await self.sessions.cancel_session_run(session, timeout=timeout)

    async def do_interrupt_session(self, session, user="alice", agent="agent"):
        """Interrupts the run if there is one, and queues a trigger to resume otherwise."""
        await self.chat.interrupt(user, session, agent)

    async def do_deliver(self, session, hint, source=None, user="alice", agent="agent"):
        payload = HintBlock(hint=hint, source=source).model_dump(mode="json")
        await bus_ops.deliver_to_inbox(self.bus, user_id=user, session_id=session, agent_id=agent, payload=payload)
        return payload

    async def do_drain(self, session, max_count=100):
        return await read_inbox(self.bus, session, max_count)

    async def do_set_consumer(self, session):
        await bus_ops.register_inbox_consumer(self.bus, session)

    async def do_finish_consumer(self, session):
        """Whether a run may end: false if there is more to read."""
        return not await bus_ops.has_pending_inbox_or_release(self.bus, session)

    async def do_abandon_consumer(self, session, user="alice", agent="agent"):
        await bus_ops.abandon_inbox_consumer(self.bus, user_id=user, session_id=session, agent_id=agent)

    async def do_run(self, session, user="alice", agent="agent", gate=None):
        """Starts a run, that is told of by events; it goes on until the gate opens."""
        self.runs.spawn(self.chat.run(user, session, agent, gate=gate), session_id=session)

    async def do_wake(self, session, user="alice", agent="agent"):
        await bus_ops.enqueue_run_trigger(self.bus, user, session, agent)

    async def do_dispatch_wakeups(self):
        """From here on wakeups start runs."""
        waker = WakeupDispatcher(self.bus, Storage(), self.chat, self.runs)
        before = await self.subscriptions()
        self.waker = await self.resources.enter_async_context(waker)
        await self.acknowledged(before + 1)

    async def do_listen(self, channel):
        """Tells what is published from here on."""

        async def listen():
            async for payload in self.bus.subscribe(channel):
                tell(event="published", channel=channel, payload=payload)

        before = await self.subscriptions()
        self.listening[channel] = asyncio.create_task(listen())
        await self.acknowledged(before + 1)

    async def do_lock(self, key, ttl_secs=600):
        """Answers when it has the lock, and holds it until told otherwise."""
        held = contextlib.AsyncExitStack()
        await held.enter_async_context(self.bus.acquire_lock(key, ttl_secs=ttl_secs))
        self.locks[key] = held

    async def do_unlock(self, key):
        await self.locks.pop(key).aclose()

    async def do_subscribed(self):
        """Which of AgentScope's loops are still there."""
        loops = {
            "session_cancel": self.canceller._session_task,
            "task_cancel": self.canceller._task_cancel_task,
            "interrupt": self.canceller._interrupt_task,
        }
        if self.waker is not None:
            loops["wakeups"] = self.waker._task
        loops.update(self.listening)
        return {name: not task.done() for name, task in loops.items()}

    async def answer(self, line):
        command = json.loads(line)
        number = command.pop("id")
        try:
            tell(id=number, ok=await getattr(self, "do_" + command.pop("do"))(**command))
        except Exception as error:
            tell(id=number, error=f"{type(error).__name__}: {error}")


async def main(url):
    async with contextlib.AsyncExitStack() as resources:
        peer = Peer(url, resources)
        await peer.start()
        tell(event="ready")
        answering = set()
        # The end of stdin is the end of whoever gave the orders.
        while line := await asyncio.to_thread(sys.stdin.readline):
            task = asyncio.create_task(peer.answer(line))
            answering.add(task)
            task.add_done_callback(answering.discard)
        for task in [*answering, *peer.listening.values()]:
            task.cancel()


if __name__ == "__main__":
    # What libraries print must not get between the answers.
    sys.stdout = sys.stderr
    asyncio.run(main(sys.argv[1]))
