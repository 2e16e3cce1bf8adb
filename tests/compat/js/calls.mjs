// The conversation of ../calls.py, step by step and under the same names, with the JavaScript client.
import { randomUUID } from "node:crypto";
import { setTimeout } from "node:timers/promises";

import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.argv[2], apiKey: null });
const { assistants, threads, runs, store } = client;
const mark = { mark: randomUUID() };
const results = {};

const keep = (name, value) => (results[name] = value ?? null);

async function refused(name, call) {
  try {
    await call;
  } catch (error) {
    keep(name, error.status);
    return;
  }
  throw new Error(`${name} was not refused`);
}

async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

// This client adds a second spelling of the times of an item.
const item = ({ createdAt, updatedAt, ...rest }) => rest;
const items = (found) => ({ items: found.items.map(item) });

const shown = (parts) => parts.map((part) => [part.event, part.data]);

async function talkOfAssistants() {
  const system = { created_by: "system" };
  keep("assistants.search of a graph", await assistants.search({ graphId: "hitl", metadata: system }));
  const made = keep(
    "assistants.create",
    await assistants.create({
      graphId: "abc",
      config: { recursion_limit: 20, tags: ["t"] },
      context: { colour: "red" },
      metadata: mark,
      name: "First",
      description: "What it is for",
    }),
  );
  const id = made.assistant_id;
  await refused("assistants.create twice", assistants.create({ graphId: "abc", assistantId: id }));
  keep(
    "assistants.create or keep",
    await assistants.create({ graphId: "abc", assistantId: id, name: "Other", ifExists: "do_nothing" }),
  );
  await refused("assistants.create of no graph", assistants.create({ graphId: "no-such-graph" }));
  keep("assistants.update", await assistants.update(id, { name: "Second", metadata: { more: 1 } }));
  keep("assistants.get", await assistants.get(id));
  keep("assistants.versions", await assistants.getVersions(id));
  keep("assistants.set_latest", await assistants.setLatest(id, 1));
  keep("assistants.search", await assistants.search({ metadata: mark, sortBy: "name", sortOrder: "asc" }));
  keep("assistants.count", await assistants.count({ metadata: mark }));
  keep("assistants.graph", await assistants.getGraph(id));
  keep("assistants.schemas", await assistants.getSchemas(id));
  keep("assistants.delete", await assistants.delete(id));
  await refused("assistants.get after delete", assistants.get(id));
  const [{ assistant_id: sub }] = await assistants.search({ graphId: "sub", metadata: system });
  keep("assistants.graph with sub-graphs", await assistants.getGraph(sub, { xray: true }));
  keep("assistants.subgraphs", Object.keys(await assistants.getSubgraphs(sub)));
}

async function talkOfThreads() {
  const made = keep("threads.create", await threads.create({ metadata: mark, graphId: "abc" }));
  const id = made.thread_id;
  await refused("threads.create twice", threads.create({ threadId: id }));
  keep("threads.create or keep", await threads.create({ threadId: id, ifExists: "do_nothing" }));
  keep("threads.get", await threads.get(id));
  keep("threads.update", await threads.update(id, { metadata: { title: "Lorries" } }));
  keep("threads.search", await threads.search({ metadata: mark, status: "idle" }));
  keep("threads.count", await threads.count({ metadata: mark }));
  const copy = keep("threads.copy", await threads.copy(id));
  keep("threads.prune", await threads.prune([copy.thread_id]));
  keep("threads.delete", await threads.delete(id));
  await refused("threads.get after delete", threads.get(id));
}

async function talkOfStates() {
  const { thread_id: id } = await threads.create({ metadata: mark });
  keep("threads.state of an empty thread", await threads.getState(id));
  keep("runs.wait with a breakpoint", await runs.wait(id, "abc", { input: {}, interruptBefore: ["C"] }));
  const state = keep("threads.state", await threads.getState(id));
  keep("threads.state of a checkpoint", await threads.getState(id, state.checkpoint));
  keep("threads.update_state", await threads.updateState(id, { values: { trace: ["by hand"] }, asNode: "B" }));
  keep("threads.history", await threads.getHistory(id, { limit: 2 }));
  keep(
    "threads.history before",
    await threads.getHistory(id, { before: { configurable: state.checkpoint }, limit: 10 }),
  );
  keep("threads.get after a state", await threads.get(id));
  const { thread_id: deep } = await threads.create({ metadata: mark });
  await runs.wait(deep, "sub", { input: { messages: [{ type: "human", content: "hi", id: "question" }] } });
  keep("threads.state with sub-graphs", await threads.getState(deep, undefined, { subgraphs: true }));
  keep("threads.state without sub-graphs", await threads.getState(deep));
  keep("threads.get of an interrupted thread", await threads.get(deep));
}

async function talkOfRuns() {
  const { thread_id: id } = await threads.create({ metadata: mark });
  await refused("runs.create of no graph", runs.create(id, "no-such-graph"));
  await refused("runs.create on no thread", runs.create(randomUUID(), "abc", { input: {} }));
  const made = keep("runs.create", await runs.create(id, "abc", { input: {}, metadata: { why: "test" } }));
  keep("runs.join", await runs.join(id, made.run_id));
  keep("runs.get", await runs.get(id, made.run_id));
  keep("runs.list", await runs.list(id));
  keep("runs.wait", await runs.wait(id, "abc", { input: {} }));
  keep("runs.wait of an error", await runs.wait(id, "err", { input: {}, raiseError: false }));
  keep("runs.wait without a thread", await runs.wait(null, "abc", { input: {} }));
  keep("runs.stream without a thread", shown(await collect(runs.stream(null, "abc", { input: {} }))));
  const replayed = await runs.create(id, "abc", { input: {}, streamMode: ["updates"], streamResumable: true });
  const parts = await collect(runs.joinStream(id, replayed.run_id, { lastEventId: "-1" }));
  keep("runs.join_stream", shown(parts));
  const rest = runs.joinStream(id, replayed.run_id, { lastEventId: parts[1].id });
  keep("runs.join_stream after an id", shown(await collect(rest)));
  keep("runs.delete", await runs.delete(id, made.run_id));
  await refused("runs.get after delete", runs.get(id, made.run_id));
  const first = await runs.create(id, "slow", { input: { steps: 2, seconds: 60 } });
  while ((await threads.getState(id)).next[0] !== "step") await setTimeout(50);
  const second = keep("runs.create on a busy thread", await runs.create(id, "abc", { input: {} }));
  await refused("runs.create rejected", runs.create(id, "abc", { input: {}, multitaskStrategy: "reject" }));
  keep("runs.cancel of a pending run", await runs.cancel(id, second.run_id));
  keep("runs.cancel and wait", await runs.cancel(id, first.run_id, true));
  const ended = [];
  for (const run of [first, second]) ended.push((await runs.get(id, run.run_id)).status);
  keep("statuses of cancelled runs", ended);
  keep("threads.get after a cancel", await threads.get(id));
}

async function talkInBulk() {
  const made = await runs.createBatch([
    { assistantId: "abc", input: {} },
    { assistantId: "hitl", input: {} },
  ]);
  keep("runs.create_batch", made.map((run) => run.kwargs.input));
  const { thread_id: id } = await threads.create({ metadata: mark });
  const slow = await runs.create(id, "slow", { input: { steps: 2, seconds: 60 } });
  keep("runs.cancel_many", await runs.cancelMany({ threadId: id, runIds: [slow.run_id], action: "interrupt" }));
  await runs.join(id, slow.run_id);
  keep("status after cancel_many", (await runs.get(id, slow.run_id)).status);
}

async function talkOfStore() {
  const space = ["compat", mark.mark];
  keep("store.put", await store.putItem([...space, "a"], "one", { n: 1, colour: "red" }));
  await store.putItem([...space, "b"], "two", { n: 2, colour: "blue" });
  keep("store.get", item(await store.getItem([...space, "a"], "one")));
  keep("store.get of nothing", await store.getItem([...space, "a"], "none"));
  keep("store.search", items(await store.searchItems(space, { filter: { colour: "blue" } })));
  keep("store.search for more than", items(await store.searchItems(space, { filter: { n: { $gt: 1 } } })));
  keep("store.namespaces", await store.listNamespaces({ prefix: space }));
  keep("store.namespaces to a depth", await store.listNamespaces({ prefix: space, maxDepth: 2 }));
  keep("store.delete", await store.deleteItem([...space, "a"], "one"));
  keep("store.get after delete", await store.getItem([...space, "a"], "one"));
}

await talkOfAssistants();
await talkOfThreads();
await talkOfStates();
await talkOfRuns();
await talkInBulk();
await talkOfStore();
console.log(JSON.stringify(results));
