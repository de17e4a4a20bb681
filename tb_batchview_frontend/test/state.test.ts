import { afterEach, expect, test, vi } from "vitest";
import { choose } from "../src/choice.js";
import { INITIAL } from "../src/selection.js";
import { Store } from "../src/state.js";
import type { PhaseSummary, RunsAnswer } from "../src/types.js";
import { fakePlugin, gradientsBlock, runsAnswer, settle, timelineBlock } from "./fakes.js";

afterEach(() => vi.unstubAllGlobals());

const BATCH = {
  step: 731,
  epoch: 9,
  index: 3,
  size: 0,
  wall_time: 0,
  loss: 1,
  metrics: {},
  error_rate: 0,
  confidence: 1,
  previous: 730,
  next: null,
  counts: { all: 0, wrong: 0, confidently_wrong: 0 },
  class_mix: [],
  total: 0,
  offset: 0,
  samples: [],
  layers: [],
  summarised: null,
};
const PHASE = (runsAnswer().runs[0] as RunsAnswer["runs"][number]).phases[0] as PhaseSummary;
const ROUTES = {
  runs: () => runsAnswer(),
  batches: (query: URLSearchParams) =>
    query.has("points") ? timelineBlock() : { total: 0, offset: 0, metrics: [], maxima: {}, rows: [] },
  batch: () => BATCH,
  layers: () => ({ layers: [] }),
  gradients: () => gradientsBlock([]),
};

function makeStore(selection = {}): { store: Store; written: Record<string, string>[] } {
  const written: Record<string, string>[] = [];
  return {
    store: new Store(
      { ...INITIAL, ...selection },
      () => undefined,
      (address) => written.push(address),
    ),
    written,
  };
}

test("where a choice does not exist, the newest run and its first phase are shown", () => {
  const { runs } = runsAnswer();
  const older = { ...(runs[0] as (typeof runs)[0]), name: "older", updated: 1 };
  const chosen = choose({ ...INITIAL, run: "gone", phase: "predict", output: "gone" }, [older, ...runs]);
  expect([chosen?.run.name, chosen?.phase?.name, chosen?.output?.name]).toEqual([
    "digits",
    "train",
    "probabilities",
  ]);
  expect(choose({ ...INITIAL, run: "older" }, [older, ...runs])?.run.name).toBe("older");
  expect(choose(INITIAL, [])).toBeNull();
});

test("only what the open tab shows is asked for", async () => {
  const { asked } = fakePlugin(ROUTES);
  const { store } = makeStore({ tab: "layers" });
  store.want();
  await settle();
  await settle();
  expect(asked.map((address) => address.split("?")[0])).toEqual([
    "./runs",
    "./runs",
    "./batches",
    "./layers",
    "./gradients",
  ]);
});

test("of a layer what was recorded is asked for: units, gradients, or neither", async () => {
  const row = { batches: 1, first_step: 0, last_step: 0, mean: 0, std: 0, min: 0, max: 0, zero_fraction: 0 };
  const rows = [
    { ...row, name: "flat", units: null },
    { ...row, name: "dense", units: 4 },
  ];
  const routes = {
    ...ROUTES,
    layers: () => ({ layers: rows }),
    gradients: () => gradientsBlock(["dense", "embedding"]),
  };
  const asks = async (layer: string): Promise<string[]> => {
    const { asked } = fakePlugin(routes);
    const { store } = makeStore({ tab: "layers", layer, last: 7, unitFigure: "zero_fraction" });
    store.want();
    for (let turn = 0; turn < 4; turn += 1) await settle();
    expect(store.layerNames).toEqual(["flat", "dense", "embedding"]);
    return asked.slice(5).filter((address) => address.includes(`layer=${layer}`));
  };
  const range = "run=digits&phase=train&layer=";
  expect(await asks("flat")).toEqual([`./layer?${range}flat&points=200&axis=usual`]);
  expect((await asks("dense")).sort()).toEqual([
    `./dead_units?${range}dense&last=7`,
    `./gradient?${range}dense&points=200&axis=usual`,
    `./layer?${range}dense&points=200&axis=usual`,
    `./units?${range}dense&points=200&limit=200&figure=zero_fraction`,
  ]);
  expect(await asks("embedding")).toEqual([`./gradient?${range}embedding&points=200&axis=usual`]);
});

test("the latest batch is shown until one is chosen", async () => {
  fakePlugin(ROUTES);
  const { store, written } = makeStore();
  store.want();
  await settle();
  await settle();
  expect(store.step).toBe(731);
  store.pick(417);
  expect([store.step, written]).toEqual([417, [{ batch: "417" }]]);
});

test("keys pressed faster than batches are answered all count, over a gap in the steps too", async () => {
  const steps = [10, 11, 14, 15, 16];
  fakePlugin({
    ...ROUTES,
    batch: (query: URLSearchParams) => {
      const place = steps.indexOf(Number(query.get("step")));
      return {
        ...BATCH,
        step: steps[place],
        previous: steps[place - 1] ?? null,
        next: steps[place + 1] ?? null,
      };
    },
  });
  const { store } = makeStore({ batch: 16 });
  store.want();
  await vi.waitFor(() => expect(store.batch.head?.step).toBe(16));
  for (const by of [-1, -1, -1, 1, -1] as const) store.stepBatch(by);
  await vi.waitFor(() => expect(store.batch.head?.step).toBe(11));
  for (const _ of [1, 2, 3]) store.stepBatch(-1);
  await vi.waitFor(() => expect(store.batch.head?.step).toBe(10));
  store.stepBatch(1);
  await vi.waitFor(() => expect(store.batch.head?.step).toBe(11));
});

test("another run forgets what was chosen inside the old one", () => {
  fakePlugin(ROUTES);
  const { store } = makeStore({
    run: "digits",
    start: 5,
    stop: 9,
    batch: 6,
    target: 3,
    sample: { step: 6, sample: 1 },
    tab: "classes",
  });
  store.move({ run: "other" });
  expect(store.selection).toEqual({ ...INITIAL, run: "other", tab: "classes" });
});

test("a hidden page asks for nothing and catches up when it is seen again", async () => {
  const { asked } = fakePlugin(ROUTES);
  const { store } = makeStore({ tab: "layers" });
  store.want();
  await settle();
  await settle();
  asked.length = 0;
  store.setVisible(false);
  store.refresh();
  await store.poll();
  expect(asked).toEqual([]);
  store.setVisible(true);
  await settle();
  expect(asked.map((address) => address.split("?")[0])).toEqual([
    "./runs",
    "./runs",
    "./batches",
    "./layers",
    "./gradients",
  ]);
});

test("a live page refreshes when the run has grown, and only then", async () => {
  let batches = 720;
  const grown = () => {
    const answer = runsAnswer();
    for (const phase of answer.runs[0]?.phases ?? []) phase.batches = batches;
    return answer;
  };
  const { asked } = fakePlugin({ ...ROUTES, runs: grown });
  const { store } = makeStore({ tab: "layers" });
  store.want();
  await settle();
  await settle();
  asked.length = 0;
  await store.poll();
  expect(asked).toEqual(["./runs"]);
  batches += 1;
  await store.poll();
  await settle();
  expect(asked.map((address) => address.split("?")[0])).toEqual([
    "./runs",
    "./runs",
    "./runs",
    "./batches",
    "./layers",
    "./gradients",
  ]);
  asked.length = 0;
  store.setLive(false);
  await store.poll();
  expect(asked).toEqual([]);
});

test("a link for others names the run that is shown by default", async () => {
  fakePlugin(ROUTES);
  const { store } = makeStore({ batch: 3 });
  store.want();
  await settle();
  expect(store.fullAddress).toEqual({ run: "digits", phase: "train", output: "probabilities", batch: "3" });
});

test("an order that the table does not have falls back to the first one", async () => {
  const { asked } = fakePlugin(ROUTES);
  const { store } = makeStore({
    batchSort: { column: "metrics.mae", descending: true },
    sampleSort: { column: "step", descending: false },
  });
  store.want();
  await settle();
  await settle();
  const sorts = asked.map((address) => new URLSearchParams(address.split("?")[1]).get("sort"));
  expect(sorts.filter((sort) => sort !== null)).toEqual(["step", "loss"]);
  store.select({ tab: "samples", batchSort: { column: "metrics.accuracy", descending: true } });
  expect([store.sampleSort.column, store.batchSort.column]).toEqual(["step", "metrics.accuracy"]);
});

const READING = { read_bytes: 3.1e9, bytes: 2e10 };

test("while files are being read the page asks soon, and once more for everything when they are read", async () => {
  let [indexing, batches]: [typeof READING | null, number] = [READING, 10];
  const runs = () => {
    const answer = { ...runsAnswer({ indexing }), indexing };
    for (const phase of answer.runs[0]?.phases ?? []) phase.batches = batches;
    return answer;
  };
  const { asked } = fakePlugin({ ...ROUTES, runs });
  const { store } = makeStore();
  store.want();
  await settle();
  expect(store.impatient).toBe(true);
  store.setLive(false);
  await settle();

  asked.length = 0;
  batches = 20;
  await store.poll();
  await settle();
  expect(asked).toEqual(["./runs"]); // nobody follows: only how far it is

  asked.length = 0;
  indexing = null;
  await store.poll();
  await settle();
  expect(asked.some((address) => address.startsWith("./batches"))).toBe(true);
  expect(store.impatient).toBe(false);

  asked.length = 0;
  await store.poll();
  expect(asked).toEqual([]);
});

test("the run shown by default stays while another becomes the newest for the moment", async () => {
  const [first] = runsAnswer().runs;
  let [indexing, updated]: [typeof READING | null, number | null] = [READING, null];
  const runs = () => ({
    ...runsAnswer(),
    indexing,
    runs: [
      { ...first, name: "a", updated: 500 },
      { ...first, name: "b", updated, indexing },
    ],
  });
  fakePlugin({ ...ROUTES, runs });
  const { store } = makeStore();
  store.want();
  await settle();
  expect(store.chosen?.run.name).toBe("a");

  updated = 900;
  await store.poll();
  expect(store.chosen?.run.name).toBe("a");

  indexing = null;
  await store.poll();
  expect(store.chosen?.run.name).toBe("b");
});

const stepping = () => {
  const { asked } = fakePlugin({
    ...ROUTES,
    batches: (query: URLSearchParams) =>
      query.has("points")
        ? timelineBlock()
        : {
            total: 720,
            offset: 0,
            metrics: [],
            maxima: {},
            rows: Array.from({ length: 200 }, (_, step) => ({ step, worst: null, metrics: {} })),
          },
    batch: (query: URLSearchParams) => {
      const step = Number(query.get("step"));
      return { ...BATCH, step, previous: step === 0 ? null : step - 1, next: step + 1 };
    },
  });
  const steps = (): string[] =>
    asked
      .filter((address) => address.startsWith("./batch?"))
      .map((address) => address.replace(/.*step=/, ""));
  return { asked, steps: () => steps().map((text) => Number.parseInt(text, 10)) };
};

test("the batches before and after the chosen one are at hand: a step asks only for the one behind them", async () => {
  const { asked, steps } = stepping();
  const { store } = makeStore({ batch: 17 });
  store.want();
  await vi.waitFor(() => expect(steps()).toEqual([17, 18, 16]));
  await settle();
  store.stepBatch(1);
  await settle();
  expect(store.batch.head?.step).toBe(18);
  expect(steps()).toEqual([17, 18, 16, 19]);
  expect(store.batchIndex).toBe(18);
  expect(asked.filter((address) => address.includes("find="))).toHaveLength(1); // the first, before there were rows
});

test("a refresh forgets the batches at hand, which may have grown", async () => {
  const { steps } = stepping();
  const { store } = makeStore({ batch: 17 });
  store.want();
  await vi.waitFor(() => expect(steps()).toEqual([17, 18, 16]));
  await settle();
  store.refresh();
  await vi.waitFor(() => expect(steps()).toEqual([17, 18, 16, 17, 18, 16]));
});

test("n and p go to the spike after and before the shown batch, and nowhere beyond the last", async () => {
  fakePlugin({
    ...ROUTES,
    batches: (query: URLSearchParams) =>
      query.has("points")
        ? timelineBlock({ spikes: [417, 30, 600].map((step) => ({ step, loss: 2, ratio: 9, worst: null })) })
        : ROUTES.batches(query),
  });
  const { store } = makeStore({ batch: 40 });
  store.want();
  await vi.waitFor(() => expect(store.summary?.spikes).toHaveLength(3));
  const seen = ([1, 1, 1, -1, -1, -1] as const).map((by) => {
    store.stepSpike(by);
    return store.step;
  });
  expect(seen).toEqual([417, 600, 600, 417, 30, 30]);
});

test("a batch that is still to be read is not asked for until it is there", async () => {
  const indexing = { read_bytes: 1, bytes: 2 };
  let whole = false;
  const { asked } = fakePlugin({
    ...ROUTES,
    runs: () =>
      whole ? runsAnswer() : { ...runsAnswer({ indexing, phases: [{ ...PHASE, last_step: 99 }] }), indexing },
  });
  const { store } = makeStore({ batch: 417 });
  store.want();
  for (let turn = 0; turn < 6; turn += 1) await settle();
  expect([store.unread, asked.some((address) => /batch\?|find=/.test(address))]).toEqual([true, false]);
  whole = true;
  await store.poll();
  await vi.waitFor(() => expect(asked.some((address) => address.startsWith("./batch?"))).toBe(true));
  expect(store.unread).toBe(false);
});
