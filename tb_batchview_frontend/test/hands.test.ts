// What hands do besides clicking: keys among buttons, ranges drawn on pictures; and the sheet of what is to be mended.

import { expect, test, vi } from "vitest";
import { axisOfSteps, axisOfWindows, sharesOf } from "../src/charts/brush.js";
import { roundOnes } from "../src/charts/lines.js";
import type { PlaneElement } from "../src/charts/plane.js";
import "../src/charts/plane.js";
import { INITIAL, type Selection } from "../src/selection.js";
import { Store } from "../src/state.js";
import { AppElement } from "../src/views/app.js";
import { fakePlugin, HOSTILE, layOut, runsAnswer, SAMPLE, settle, timelineBlock } from "./fakes.js";

vi.mock("uplot", () => ({
  default: class {
    over = document.createElement("div");
    cursor = { idx: null };
    valToPos = (value: number): number => value;
    setData(): void {}
    redraw(): void {}
    destroy(): void {}
  },
}));

layOut();

const named = runsAnswer();
(named.runs[0] as { outputs: object[] }).outputs = [
  {
    name: "probabilities",
    task: "multiclass",
    classes: 4,
    activation: null,
    class_names: ["cat", "cow", "dog", "fox"],
  },
];
const ROUTES = {
  runs: () => named,
  batches: (query: URLSearchParams) =>
    query.has("points")
      ? timelineBlock({ spikes: [] })
      : { total: 0, offset: 0, metrics: [], maxima: {}, rows: [] },
  batch: () => ({
    step: 731,
    epoch: 0,
    index: 4,
    size: 4000,
    wall_time: 1,
    loss: 1,
    metrics: {},
    error_rate: 0.1,
    confidence: 0.9,
    previous: 3,
    next: null,
    counts: { all: 1, wrong: 1, confidently_wrong: 1 },
    class_mix: [
      { class: 2, target: 1500, predicted: 4000 },
      { class: 0, target: 2500, predicted: 0 },
    ],
    total: 1,
    offset: 0,
    samples: [SAMPLE],
    layers: [],
    summarised: null,
  }),
  doctor: () => ({
    findings: [
      { about: "frontend", state: "bundled", remedy: "" },
      { about: HOSTILE, state: "NaN", remedy: "pip install -U tb_batchview" },
    ],
  }),
};

async function showPage(
  selection: Partial<Selection> = {},
  routes: Record<string, (query: URLSearchParams) => unknown> = ROUTES,
): Promise<{ app: AppElement; store: Store; asked: string[]; find: (hook: string) => HTMLElement | null }> {
  const { asked } = fakePlugin(routes);
  const app = new AppElement();
  const store = new Store(
    { ...INITIAL, ...selection },
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

const press = (key: string): boolean =>
  document.activeElement?.dispatchEvent(
    new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }),
  ) ?? true;

test("arrows lead through the class mix, which is one stop of the Tab key; the batch stays", async () => {
  const { store, find } = await showPage({ batch: 731 });
  const bar = find("class-mix")?.querySelector<HTMLElement>('[role="toolbar"]');
  const parts = [...(bar?.querySelectorAll("button") ?? [])];
  expect(bar?.getAttribute("aria-label")).toBe("target: cat 2,500, dog 1,500");
  expect(parts.map((part) => part.getAttribute("aria-label"))).toEqual([
    "target cat: 2,500 samples",
    "target dog: 1,500 samples",
  ]);
  expect(parts.map(({ tabIndex }) => tabIndex)).toEqual([0, -1]);

  parts[0]?.focus();
  press("ArrowRight");
  expect(document.activeElement).toBe(parts[1]);
  press("ArrowRight");
  expect(document.activeElement).toBe(parts[1]);
  expect(store.selection.batch).toBe(731);

  parts[1]?.click();
  expect(store.selection.target).toBe(2);
  await settle();
  expect(parts.map(({ tabIndex }) => tabIndex)).toEqual([-1, 0]);
  parts[1]?.click();
  expect(store.selection.target).toBeNull();
});

test("a class of the predictions is chosen as predicted", async () => {
  const { store, find } = await showPage();
  find("class-mix")?.querySelectorAll<HTMLElement>('[role="toolbar"]')[1]?.querySelector("button")?.click();
  expect([store.selection.target, store.selection.predicted]).toEqual([null, 2]);
});

test("arrows lead from the search into the classes found and back, Escape out of it", async () => {
  const { app, store, find } = await showPage();
  const input = find("class-search") as HTMLInputElement;
  input.focus();
  input.value = "o";
  input.dispatchEvent(new Event("input", { bubbles: true }));
  await app.updateComplete;
  press("ArrowDown");
  press("ArrowDown");
  expect(document.activeElement?.textContent).toBe("dog");
  press("ArrowUp");
  press("ArrowUp");
  expect(document.activeElement).toBe(input);
  expect(press("ArrowLeft")).toBe(true); // that is the caret's
  press("ArrowDown");
  press("Escape");
  expect([store.search, store.selection.target]).toEqual(["", null]);
});

test("what doctor finds is asked for when the sheet is opened, what is to be mended first", async () => {
  const { app, store, asked, find } = await showPage();
  expect(asked.some((address) => address.includes("doctor"))).toBe(false);
  // 720 of 732 batches of a phase are there.
  expect(find("doctor")?.textContent).toBe("1 problem · what to do");
  find("doctor")?.click();
  await settle();
  await app.updateComplete;
  expect(asked.at(-1)).toBe("./doctor");
  const sheet = find("doctor-sheet") as HTMLDialogElement;
  expect(sheet.open).toBe(true);
  expect([...sheet.querySelectorAll("dt")].map((row) => row.textContent)).toEqual([HOSTILE, "frontend"]);
  const [first, second] = [...sheet.querySelectorAll("dd")].map((row) => row.textContent);
  expect([first, second]).toEqual(["NaNTo do: pip install -U tb_batchview", "bundled"]);
  sheet.querySelector<HTMLElement>("button")?.click();
  await app.updateComplete;
  expect([store.checkup, sheet.open]).toEqual([false, false]);
});

test("where nothing is wrong no button says so, and the sheet stays within reach", async () => {
  const runs = structuredClone(named);
  for (const phase of runs.runs[0]?.phases ?? []) phase.seen = phase.batches;
  const { find } = await showPage(
    {},
    { ...ROUTES, runs: () => runs, doctor: () => new Response("No.", { status: 400 }) },
  );
  expect(find("doctor")).toBeNull();
  find("checks")?.click();
  await settle();
  await settle();
  expect(find("doctor-sheet")?.querySelector('[role="alert"]')?.textContent).toBe("No.");
});

test("a range drawn over windows begins with the first of them and ends where the next one begins", () => {
  const axis = axisOfWindows({ left: 50, top: 0, width: 100, height: 10 }, [0, 10, 20, 30]);
  expect(axis.between(...sharesOf(axis, 76, 110))).toEqual([10, 30]);
  expect(axis.between(...sharesOf(axis, 110, 76))).toEqual([10, 30]);
  expect(axis.between(...sharesOf(axis, 130, 900))).toEqual([30, null]);
  expect(axis.between(...sharesOf(axis, -5, 52))).toEqual([0, 10]);
});

test("a range drawn over batches holds those between its ends", () => {
  const axis = axisOfSteps({ left: 0, top: 0, width: 100, height: 10 }, 10, 20);
  expect(axis.between(0.11, 0.59)).toEqual([12, 16]);
  expect(axis.between(0, 1)).toEqual([10, 21]);
  expect(axis.between(0.51, 0.52)).toEqual([16, 17]);
});

test("a picture whose axis counts batches takes a range that is drawn on it, and no click for one", async () => {
  const picture = document.createElement("bv-plane") as PlaneElement;
  const [ranges, picks] = [[] as unknown[], [] as number[]];
  picture.plane = {
    across: { label: "batch", low: 0, high: 522, steps: true },
    up: { label: "y", low: 0, high: 1 },
    kind: "dots",
    x: [100],
    y: [0.5],
    guides: [],
  };
  picture.onRange = (...range) => ranges.push(range);
  picture.onPick = (index) => picks.push(index);
  document.body.append(picture);
  await picture.updateComplete;
  const canvas = picture.querySelector("canvas") as HTMLCanvasElement;
  const mouse = (kind: string, x: number, target: EventTarget = canvas): boolean =>
    target.dispatchEvent(new MouseEvent(kind, { clientX: x, clientY: 105, bubbles: true, cancelable: true }));
  // 600 pixels wide, of which the first 64 and the last 14 are no axis: a batch a pixel.
  mouse("mousedown", 164);
  mouse("mousemove", 166, window);
  mouse("mouseup", 166, window);
  mouse("click", 166);
  expect([ranges, picks]).toEqual([[], [0]]);

  mouse("mousedown", 164);
  mouse("mousemove", 264, window);
  await picture.updateComplete;
  expect(picture.querySelector<HTMLElement>(".u-select")?.style.width).toBe("100px");
  mouse("mouseup", 264, window);
  mouse("click", 264);
  expect([ranges, picks]).toEqual([[[100, 201]], [0]]);
  await picture.updateComplete;
  expect(picture.querySelector(".u-select")).toBeNull();

  picture.plane = { ...picture.plane, across: { label: "target", low: 0, high: 522 } };
  mouse("mousedown", 164);
  mouse("mousemove", 264, window);
  mouse("mouseup", 264, window);
  expect(ranges.length).toBe(1);
});

test("a range that is drawn to the end of a picture leaves the end as it is", () => {
  const store = new Store(
    { ...INITIAL, stop: 500 },
    () => undefined,
    () => undefined,
  );
  fakePlugin(ROUTES);
  store.brush(100, null);
  expect([store.selection.start, store.selection.stop]).toEqual([100, 500]);
  store.brush(20, 40);
  expect([store.selection.start, store.selection.stop]).toEqual([20, 40]);
});

test("on a log axis round numbers are labelled, of many powers of ten these alone", () => {
  expect(roundOnes([0.1378, 0.2, 0.3, 0.5, 1, 2, 3])).toEqual([null, 0.2, null, 0.5, 1, 2, null]);
  expect(roundOnes([0.001, 0.002, 0.01, 0.1, 1])).toEqual([0.001, null, 0.01, 0.1, 1]);
});
