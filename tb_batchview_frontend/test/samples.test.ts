import { afterEach, beforeEach, expect, test, vi } from "vitest";
import {
  boxBetween,
  greatestSpread,
  isIn,
  nearest,
  placeOf,
  stepAmong,
} from "../src/charts/scatter_geometry.js";
import {
  filterQuery,
  hasFilter,
  isChosen,
  NO_FILTER,
  PRESETS,
  readBox,
  readNumber,
  readSpan,
  spanWords,
  withEnd,
} from "../src/sample_filter.js";
import { INITIAL, type Selection } from "../src/selection.js";
import { Store } from "../src/state.js";
import type { SampleTime } from "../src/types.js";
import { AppElement } from "../src/views/app.js";
import { sampleSheet, saveView } from "../src/views/download.js";
import { timeWords } from "../src/views/history.js";
import { pressKey } from "../src/views/keys.js";
import { fakePlugin, HOSTILE, mapBlock, runsAnswer, SAMPLE, settle, timelineBlock } from "./fakes.js";

vi.mock("uplot", () => ({ default: class {} }));

beforeEach(() => {
  vi.spyOn(HTMLElement.prototype, "clientHeight", "get").mockReturnValue(400);
  vi.spyOn(HTMLElement.prototype, "clientWidth", "get").mockReturnValue(600);
});

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
  document.body.replaceChildren();
});

// ---- pure

test("numbers are read as people type them, and nothing else", () => {
  const typed = ["0.5", ",5", " 1e-3 ", "−2", "-.5", "7.", "", "x", "1e999", "0x1", "1_0", "٣", "NaN"];
  expect(typed.map(readNumber)).toEqual([0.5, 0.5, 0.001, -2, -0.5, 7, ...Array(7).fill(null)]);
});

test("a span has at least one end, a box four, and none is turned round", () => {
  expect(["0.2~0.8", "~0.8", "0.2~", "~", "1~0", "0.2", "1~2~3"].map(readSpan)).toEqual([
    [0.2, 0.8],
    [null, 0.8],
    [0.2, null],
    ...Array(4).fill(undefined),
  ]);
  expect(["0~1~0~0.5", "1~0~0~0.5", "0~1~0.5~0", "0~1~0", "0~1~~0.5"].map(readBox)).toEqual([
    [0, 1, 0, 0.5],
    ...Array(4).fill(undefined),
  ]);
});

test("one end of a span is changed, and an end that would turn it round takes the other away", () => {
  expect([
    withEnd(null, 0, 0.2),
    withEnd([0.2, null], 1, 0.8),
    withEnd([0.2, 0.8], 0, 0.9),
    withEnd([0.2, 0.8], 1, 0.1),
    withEnd([0.2, 0.8], 0, null),
    withEnd([null, 0.8], 1, null),
  ]).toEqual([[0.2, null], [0.2, 0.8], [0.9, null], [null, 0.1], [null, 0.8], null]);
});

test("spans are said in words", () => {
  const spans = [
    [0.2, 0.8],
    [0.2, null],
    [null, 0.8],
  ] as const;
  expect(spans.map((span) => spanWords(span, String))).toEqual(["0.2 to 0.8", "at least 0.2", "at most 0.8"]);
});

test("no filter asks for nothing, and each filter for its own parameters", () => {
  const given = (filter: Partial<typeof NO_FILTER>) =>
    Object.fromEntries(
      Object.entries(filterQuery({ ...NO_FILTER, ...filter })).filter(
        ([, value]) => value !== null && value !== undefined && value !== "",
      ),
    );
  expect(given({})).toEqual({});
  expect(
    given({
      confidence: [0, null],
      loss: [null, 2],
      id: "a",
      idPart: "b",
      each: "last",
      learning: "forgotten",
    }),
  ).toEqual({ confidence_min: 0, loss_max: 2, id: "a", id_part: "b", each: "last", learning: "forgotten" });
  expect(given({ box: [0, 1, 0.1, 0.2] })).toEqual({
    mean_target_score_min: 0,
    mean_target_score_max: 1,
    variability_min: 0.1,
    variability_max: 0.2,
  });
  expect([hasFilter(NO_FILTER), hasFilter({ ...NO_FILTER, idPart: "x" })]).toEqual([false, true]);
});

test("each preset is told from the others, and names its paper where it has one", () => {
  for (const preset of PRESETS) {
    const selection = { ...INITIAL, ...preset.choice };
    expect(PRESETS.filter((other) => isChosen(other, selection))).toEqual([preset]);
  }
  const notes = PRESETS.map(({ note }) => note).join(" ");
  for (const paper of ["Toneva et al. 2019", "Swayamdipta et al. 2020", "Pleiss et al. 2020"])
    expect(notes).toContain(paper);
});

const FRAME = { left: 40, top: 10, width: 400, height: 200 };
const POINTS = { x: [0.1, 0.2, 0.2], y: [0.9, 0.9, 0.2], share: [1, 0.5, 0], most: 0.4 };

test("points of the map are where their figures say", () => {
  expect(placeOf(POINTS, 0, FRAME)).toEqual({ x: 140, y: 10 + 200 * (1 - 0.9) });
  expect([nearest(POINTS, 141, 31, FRAME, 8), nearest(POINTS, 300, 100, FRAME, 8)]).toEqual([0, null]);
  expect([greatestSpread([]), greatestSpread([0.31]), greatestSpread([0.5]), greatestSpread([0.7])]).toEqual([
    0.05, 0.35, 0.5, 0.5,
  ]);
});

test("arrow keys go to the next point in their direction", () => {
  expect([
    stepAmong(POINTS, null, [1, 0], FRAME),
    stepAmong(POINTS, 0, [1, 0], FRAME),
    stepAmong(POINTS, 1, [0, 1], FRAME),
    stepAmong(POINTS, 1, [0, -1], FRAME),
    stepAmong(POINTS, 9, [1, 0], FRAME),
  ]).toEqual([0, 1, 2, 1, 0]);
});

test("a box holds the points that were framed, whichever corner it began at", () => {
  const box = boxBetween({ x: 260, y: 240 }, { x: 100, y: 12 }, FRAME, POINTS.most);
  expect(box).toEqual(boxBetween({ x: 100, y: 12 }, { x: 260, y: 240 }, FRAME, POINTS.most));
  expect(box).toEqual([0, 0.99, 0.06, 0.22]);
  expect([0, 1, 2].map((index) => isIn(POINTS, index, box))).toEqual([true, true, true]);
  expect([0, 1, 2].map((index) => isIn(POINTS, index, [0, 0.5, 0, 0.4]))).toEqual([false, false, true]);
});

const TIME: SampleTime = { ...SAMPLE, epoch: 3 };

test("a time is said with its epoch, what was predicted, and how it came out", () => {
  expect(timeWords(TIME, null)).toBe(
    "epoch 3, batch 4: predicted 5 with 0.970; wrong, confident; target 0.012, loss 4.310",
  );
  expect(timeWords({ ...TIME, target: null, predicted: null, error: 0.5 }, null)).toBe(
    "epoch 3, batch 4: error 0.5000, loss 4.310",
  );
});

test("a sheet of ids has their figures", () => {
  const dynamics = {
    seen: 3,
    mean_target_score: 0.5,
    variability: 0,
    correctness: 1,
    forgetting: 0,
    margin: null,
  };
  const sheet = sampleSheet([{ ...SAMPLE, dynamics }, SAMPLE], null);
  expect(sheet.head.slice(9)).toEqual([
    "seen",
    "mean_target_score",
    "variability",
    "correctness",
    "forgetting",
    "margin",
  ]);
  expect(sheet.rows.map((row) => row.length)).toEqual([15, 15]);
});

// ---- the page

const sample = { ...SAMPLE, id: HOSTILE };
const answer = (identified: boolean, id: unknown = HOSTILE) => ({
  total: 1,
  offset: 0,
  identified,
  samples: [{ ...sample, id }],
});
const ROUTES = {
  runs: () => runsAnswer(),
  batches: () => timelineBlock(),
  samples: () => answer(true),
  data_map: () => mapBlock([HOSTILE, "NaN"]),
  sample: () => ({
    ...sample,
    classes: 10,
    scores: sample.top,
    seen: 500,
    dynamics: null,
    history: [TIME, { ...TIME, step: 9, sample: 1 }],
    history_refused: null,
  }),
};

async function showPage(
  selection: Partial<Selection>,
  routes: Record<string, (query: URLSearchParams) => unknown> = ROUTES,
): Promise<{ app: AppElement; store: Store; asked: string[]; find: (hook: string) => HTMLElement | null }> {
  const { asked } = fakePlugin(routes);
  const app = new AppElement();
  const store = new Store(
    { ...INITIAL, tab: "samples", ...selection },
    () => app.requestUpdate(),
    () => undefined,
  );
  app.store = store;
  document.body.append(app);
  store.want();
  for (let turn = 0; turn < 6; turn += 1) await settle();
  await app.updateComplete;
  return { app, store, asked, find: (hook) => app.querySelector<HTMLElement>(`[data-testid="${hook}"]`) };
}

const parametersOf = (asked: string[], route: string): Record<string, string> =>
  Object.fromEntries(
    new URLSearchParams(
      asked
        .filter((address) => address.startsWith(`./${route}?`))
        .at(-1)
        ?.split("?")[1],
    ),
  );

test("without ids what needs them is hidden, and the line to add is said", async () => {
  const { asked, find } = await showPage({}, { ...ROUTES, samples: () => answer(false, null) });
  expect(find("no-ids")?.textContent).toContain("sample_ids=ids");
  expect(["id-search", "preset-forgotten", "data-map", "map-toggle", "each-last"].map(find)).toEqual(
    Array(5).fill(null),
  );
  expect(find("preset-hardest")).not.toBeNull();
  expect(asked.some((address) => address.includes("data_map"))).toBe(false);
});

test("with ids nothing of that is said, and the map is asked for", async () => {
  const { asked, find } = await showPage({ start: 5 });
  expect([find("no-ids"), find("id-search") === null, find("data-map") === null]).toEqual([
    null,
    false,
    false,
  ]);
  expect(parametersOf(asked, "data_map")).toMatchObject({ run: "digits", start: "5", limit: "5000" });
});

test("a map that is hidden is not asked for", async () => {
  const { asked, find } = await showPage({ map: false });
  expect(find("data-map")).toBeNull();
  expect(asked.some((address) => address.includes("data_map"))).toBe(false);
});

test("a preset asks for its samples and says what it means", async () => {
  const { app, asked, find, store } = await showPage({ confidence: [0.5, null] });
  find("preset-margin")?.click();
  await app.updateComplete;
  expect(parametersOf(asked, "samples")).toMatchObject({ each: "last", sort: "margin", descending: "0" });
  expect(parametersOf(asked, "samples")).not.toHaveProperty("confidence_min");
  expect(find("preset-note")?.textContent).toContain("Pleiss et al. 2020");
  expect(find("preset-margin")?.getAttribute("aria-pressed")).toBe("true");
  expect(store.sampleSort).toEqual({ column: "margin", descending: false });
});

test("every filter has a chip that takes it off", async () => {
  const filters = {
    confidence: [0.5, null],
    loss: [null, 2],
    id: "a",
    idPart: "b",
    learning: "forgotten",
    each: "last",
    box: [0, 1, 0, 0.5],
    start: 3,
  } as const;
  const { app, find, store } = await showPage({ ...filters, outcome: "wrong", target: 1, predicted: 2 });
  for (const [hook, key] of [
    ["filter-confidence", "confidence"],
    ["filter-loss", "loss"],
    ["filter-id", "id"],
    ["filter-id-part", "idPart"],
    ["filter-learning", "learning"],
    ["filter-each", "each"],
    ["filter-box", "box"],
    ["filter-range", "start"],
    ["filter-target", "target"],
    ["filter-predicted", "predicted"],
  ] as const) {
    find(hook)?.click();
    expect([hook, store.selection[key]]).toEqual([hook, INITIAL[key]]);
    await app.updateComplete;
    expect(find(hook)).toBeNull();
  }
  find("filters-off")?.click();
  expect(store.selection.outcome).toBe("all");
});

test("ranges, classes and ids are chosen in their boxes", async () => {
  const { app, asked, find, store } = await showPage({});
  const type = async (hook: string, text: string): Promise<void> => {
    const box = find(hook) as HTMLInputElement;
    box.value = text;
    box.dispatchEvent(new Event("change"));
    await app.updateComplete;
  };
  await type("confidence-min", "0.25");
  await type("loss-max", "3");
  await type("choose-predicted", "5");
  await type("id-search", "IMG_1");
  expect(parametersOf(asked, "samples")).toMatchObject({
    confidence_min: "0.25",
    loss_max: "3",
    predicted: "5",
    id_part: "IMG_1",
  });
  await type("loss-max", "no number");
  expect(store.selection.loss).toBeNull();
  await type("box-1", "0.5");
  expect(store.selection.box).toEqual([0, 0.5, 0, 0.15]);
});

test("the history says each time, and a click opens it", async () => {
  const { app, find, store } = await showPage({ sample: { step: 4, sample: 7 } });
  const times = [...app.querySelectorAll<HTMLElement>('[data-testid="history-strip"] button')];
  expect(times.map((time) => time.getAttribute("aria-current"))).toEqual(["true", null]);
  expect(find("history")?.textContent).toContain("Seen 500 times");
  expect(find("history")?.textContent).toContain("the last 2 times");
  times[1]?.click();
  expect(store.selection.sample).toEqual({ step: 9, sample: 1 });
});

test("the times of a sample are shown as rows", async () => {
  const { find, store } = await showPage({ sample: { step: 4, sample: 7 }, outcome: "wrong", idPart: "x" });
  find("history-rows")?.click();
  expect(store.selection).toMatchObject({ id: HOSTILE, idPart: "", outcome: "all", tab: "samples" });
});

test("a sample that cannot be followed says why", async () => {
  const { app, find } = await showPage(
    { sample: { step: 4, sample: 7 } },
    { ...ROUTES, sample: () => ({ ...ROUTES.sample(), seen: 0, history: [], history_refused: "Too many." }) },
  );
  expect(find("history")).toBeNull();
  expect(app.querySelector('[data-testid="sample"]')?.textContent).toContain("Too many.");
});

test("Esc takes the filters of samples off, and another run has none", async () => {
  const { store } = await showPage({ confidence: [0.5, null], each: "last" });
  pressKey(
    store,
    "Escape",
    () => undefined,
    () => undefined,
  );
  expect(hasFilter(store.selection)).toBe(false);
  store.select({ idPart: "x" });
  store.move({ phase: "validation" });
  expect(store.selection.idPart).toBe("");
});

test("a task without classes has the preset of losses and no map", async () => {
  const runs = runsAnswer({ outputs: [{ name: "age", task: "regression", classes: 0, activation: null }] });
  const { asked, find } = await showPage({}, { ...ROUTES, runs: () => runs });
  expect(
    ["preset-hardest", "preset-margin", "choose-target", "map-toggle"].map((hook) => find(hook) !== null),
  ).toEqual([true, false, false, false]);
  expect(asked.some((address) => address.includes("data_map"))).toBe(false);
  expect(find("id-search")).not.toBeNull();
});

test("what matches nothing is said", async () => {
  const { find } = await showPage(
    {},
    { ...ROUTES, samples: () => ({ ...answer(true), total: 0, samples: [] }) },
  );
  expect(find("no-match")?.textContent).toContain("No sample of the range matches");
});

test.each(["x".repeat(10_000), "\u202eright to left", "before\u0000after", "👩‍🔬", "", "NaN", 7])(
  "the id %# is shown as text",
  async (id) => {
    const { app, find } = await showPage(
      { sample: { step: 4, sample: 7 } },
      { ...ROUTES, samples: () => answer(true, id), sample: () => ({ ...ROUTES.sample(), id }) },
    );
    const words = id === "" ? "“”" : String(id);
    expect(find("sample")?.querySelector("h2")?.textContent).toContain(words);
    expect(find("samples-table")?.textContent).toContain(words);
    expect(app.querySelectorAll("img, script")).toHaveLength(0);
  },
);

test("the CSV is of the samples that are shown", async () => {
  const saved: Blob[] = [];
  vi.spyOn(URL, "createObjectURL").mockImplementation((blob) => {
    saved.push(blob as Blob);
    return "blob:none";
  });
  const { asked, store } = await showPage({ confidence: [0.5, null], each: "last", outcome: "wrong" });
  await saveView(store);
  expect(parametersOf(asked, "samples")).toMatchObject({
    confidence_min: "0.5",
    each: "last",
    outcome: "wrong",
    sort: "loss",
  });
  expect(await saved[0]?.text()).toContain(HOSTILE.replaceAll('"', '""'));
});
