// @vitest-environment node
/// <reference types="node" />

// Answers the plugin gave, kept by its own tests (tests/test_plugin.py): the viewer must read and show exactly these.

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { decodeBlock, revive } from "../src/api.js";
import { DeltaModel } from "../src/charts/delta_model.js";
import { sumsOf } from "../src/charts/matrix_geometry.js";
import { FIGURES as FIGURES_OF_IDS } from "../src/sample_filter.js";
import type {
  BatchAnswer,
  BatchesAnswer,
  ClassesAnswer,
  ConfusionHeader,
  DataMapHeader,
  JoinedAnswer,
  LayerHeader,
  LayersAnswer,
  RunsAnswer,
  SampleAnswer,
  SamplesAnswer,
  TimelineHeader,
} from "../src/types.js";
import { pairedOf } from "../src/views/compare_classes.js";

const file = (name: string): URL => new URL(`./golden/${name}`, import.meta.url);
const json = <Answer>(name: string): Answer => revive(JSON.parse(readFileSync(file(name), "utf8"))) as Answer;
const block = <Header>(name: string): ReturnType<typeof decodeBlock<Header>> => {
  const bytes = readFileSync(file(name));
  return decodeBlock<Header>(new Uint8Array(bytes).buffer);
};
const values = (name: string, { arrays }: ReturnType<typeof block>): number[] =>
  Array.from(arrays[name]?.values ?? []);
const keys = (value: object | null | undefined): string[] => Object.keys(value ?? {}).sort();

/** The keys of an interface, checked by the compiler: one too many or too few does not compile. */
const keysOf = <Answer>(expected: Record<keyof Answer, true>): string[] => Object.keys(expected).sort();

const FIGURES = { mean: true, std: true, zero_fraction: true } as const;

test("every answer has the keys of its type, and no other", () => {
  const runs = json<RunsAnswer>("runs.json");
  const [run] = runs.runs;
  expect(keys(runs)).toEqual(
    keysOf<RunsAnswer>({
      format_version: true,
      plugin_version: true,
      logdir: true,
      data_provider: true,
      indexing: true,
      runs: true,
    }),
  );
  expect(keys(run)).toEqual(
    keysOf<NonNullable<typeof run>>({
      name: true,
      updated: true,
      indexing: true,
      phases: true,
      outputs: true,
      metrics: true,
      layers: true,
      health: true,
    }),
  );
  expect(keys(run?.phases[0])).toEqual([
    "batches",
    "epochs",
    "first_step",
    "inputs",
    "last_step",
    "name",
    "samples",
    "seen",
    "updated",
  ]);
  expect(keys(run?.outputs[0])).toEqual(["activation", "classes", "name", "task"]);
  const batches = json<BatchesAnswer>("batches.json");
  expect(keys(batches)).toEqual(
    keysOf<BatchesAnswer>({ total: true, offset: true, metrics: true, maxima: true, rows: true }),
  );
  expect(keys(batches.rows[0])).toEqual([
    "confidence",
    "epoch",
    "error_rate",
    "index",
    "loss",
    "metrics",
    "size",
    "step",
    "wall_time",
    "worst",
  ]);
  const batch = json<BatchAnswer>("batch.json");
  expect(keys(batch)).toEqual(
    keysOf<BatchAnswer>({
      step: true,
      epoch: true,
      index: true,
      size: true,
      wall_time: true,
      loss: true,
      metrics: true,
      error_rate: true,
      confidence: true,
      previous: true,
      next: true,
      counts: true,
      class_mix: true,
      total: true,
      offset: true,
      samples: true,
      layers: true,
      summarised: true,
    }),
  );
  const SAMPLE = {
    step: true,
    sample: true,
    id: true,
    target: true,
    predicted: true,
    confidence: true,
    target_score: true,
    loss: true,
    error: true,
  } as const;
  expect(keys(batch.samples[0])).toEqual(Object.keys({ ...SAMPLE, weight: true, top: true }).sort());
  expect(keys(json<SamplesAnswer>("samples.json").samples[0])).toEqual(Object.keys(SAMPLE).sort());
  expect(keys(json<SampleAnswer>("sample-multilabel.json"))).toEqual(
    keysOf<SampleAnswer>({
      ...SAMPLE,
      weight: true,
      top: true,
      classes: true,
      scores: true,
      target_values: true,
      seen: true,
      dynamics: true,
      history: true,
      history_refused: true,
    }),
  );
  const { id, ...time } = SAMPLE;
  const known = json<SampleAnswer>("sample-history.json");
  expect(keys(known.history[0])).toEqual(Object.keys({ ...time, epoch: id }).sort());
  expect(keys(known.dynamics)).toEqual([...FIGURES_OF_IDS].sort());
  const each = json<SamplesAnswer>("samples-each.json");
  expect(keys(each)).toEqual(
    keysOf<SamplesAnswer>({ total: true, offset: true, identified: true, samples: true }),
  );
  expect(keys(each.samples[0])).toEqual(Object.keys({ ...SAMPLE, dynamics: true }).sort());
  expect(keys(json<ClassesAnswer>("classes.json").classes[0])).toEqual([
    "class",
    "f1",
    "f1_high",
    "f1_low",
    "most_confused",
    "precision",
    "precision_high",
    "precision_low",
    "predicted",
    "recall",
    "recall_high",
    "recall_low",
    "support",
  ]);
  expect(keys(json<LayersAnswer>("layers.json").layers[0])).toEqual(
    Object.keys({
      ...FIGURES,
      name: true,
      batches: true,
      first_step: true,
      last_step: true,
      units: true,
      min: true,
      max: true,
    }).sort(),
  );
});

test("only the answer for one run has class names", () => {
  const named = json<RunsAnswer>("run.json").runs;
  expect(
    named.map(({ outputs }) => outputs.map(({ classes, class_names }) => [classes, class_names?.length])),
  ).toEqual([[[4, 4]]]);
  expect(
    json<RunsAnswer>("runs.json").runs.every(({ outputs }) =>
      outputs.every((output) => !("class_names" in output)),
    ),
  ).toBe(true);
});

test("the timeline agrees with the rows of the table, batch by batch", () => {
  const timeline = block<TimelineHeader>("timeline.bin");
  const { rows } = json<BatchesAnswer>("batches.json");
  expect(values("step", timeline)).toEqual(rows.map(({ step }) => step));
  expect(values("loss_mean", timeline)).toEqual(rows.map(({ loss }) => Math.fround(loss ?? Number.NaN)));
  expect(values("error_mean", timeline)).toEqual(
    rows.map(({ error_rate }) => Math.fround(error_rate ?? Number.NaN)),
  );
  expect(values("nonfinite", timeline)).toEqual(rows.map(({ loss }) => (Number.isFinite(loss) ? 0 : 1)));
  expect(timeline.header.spikes.some(({ loss }) => Number.isNaN(loss))).toBe(true);
});

test("decimation keeps the least and the greatest of every bucket", () => {
  const fine = block<TimelineHeader>("timeline.bin");
  const coarse = block<TimelineHeader>("timeline-decimated.bin");
  const { bucket } = coarse.header;
  const finite = values("loss_mean", fine);
  const steps = values("step", coarse);
  expect([bucket, steps.length]).toEqual([5, 5]);
  const buckets = steps.map((_, index) =>
    finite.slice(index * bucket, (index + 1) * bucket).filter(Number.isFinite),
  );
  expect(values("loss_min", coarse)).toEqual(buckets.map((part) => Math.min(...part)));
  expect(values("loss_max", coarse)).toEqual(buckets.map((part) => Math.max(...part)));
  expect(coarse.header.outcomes).toEqual(fine.header.outcomes);
});

test("rows of the confusion matrix sum to the support of the classes, columns to what was predicted", () => {
  const confusion = block<ConfusionHeader>("confusion.bin");
  const sums = sumsOf({ labels: values("labels", confusion), counts: values("counts", confusion) });
  const classes = [...json<ClassesAnswer>("classes.json").classes].sort((a, b) => a.class - b.class);
  expect(confusion.arrays.counts?.shape).toEqual([4, 4]);
  expect(Array.from(sums.rows)).toEqual(classes.map(({ support }) => support));
  expect(Array.from(sums.columns)).toEqual(classes.map(({ predicted }) => predicted));
  expect(block<ConfusionHeader>("confusion-binary.bin").header.classes).toBe(2);
});

test("the clustered order has every class once, beside the same counts", () => {
  const [plain, clustered] = ["confusion.bin", "confusion-clustered.bin"].map((name) =>
    block<ConfusionHeader>(name),
  );
  if (plain === undefined || clustered === undefined) throw new Error("both answers must be there");
  expect(Array.from(values("counts", clustered))).toEqual(Array.from(values("counts", plain)));
  expect(Array.from(values("clustered", clustered)).sort()).toEqual([0, 1, 2, 3]);
  expect(plain.arrays.clustered).toBeUndefined();
});

test("each histogram of a layer is of shares that sum to one", () => {
  const layer = block<LayerHeader>("layer.bin");
  const [windows, bins] = layer.arrays.histogram?.shape ?? [];
  expect([windows, bins]).toEqual([values("step", layer).length, layer.header.bins]);
  const shares = values("histogram", layer);
  const [below, above] = [values("below", layer), values("above", layer)];
  for (let window = 0; window < (windows ?? 0); window += 1) {
    const sum = shares
      .slice(window * (bins ?? 0), (window + 1) * (bins ?? 0))
      .reduce((total, share) => total + share, 0);
    expect(sum + (below[window] ?? 0) + (above[window] ?? 0)).toBeCloseTo(1, 5);
  }
});

test("the data map has a point for each id, the same figures as the rows and the history", () => {
  const map = block<DataMapHeader>("data_map.bin");
  const { samples } = json<SamplesAnswer>("samples-each.json");
  expect([map.header.ids, map.header.shown, map.header.names.length]).toEqual([12, 12, 12]);
  for (const name of FIGURES_OF_IDS) {
    const rows = Object.fromEntries(samples.map(({ id, dynamics }) => [id, dynamics?.[name]]));
    expect(values(name, map)).toEqual(map.header.names.map((id) => rows[id]));
  }
  const known = json<SampleAnswer>("sample-history.json");
  expect(known.dynamics).toEqual(samples.find(({ id }) => id === known.id)?.dynamics);
  expect(known.history.map(({ step }) => step)).toEqual([0, 1, 2]);
});

test("a regression has an error, and neither classes nor outcomes", () => {
  expect(json<ClassesAnswer>("classes-regression.json").classes).toEqual([]);
  expect(json<ClassesAnswer>("classes-regression.json").mean_absolute_error).toBeGreaterThan(0);
  expect(block<TimelineHeader>("timeline-regression.bin").header.outcomes).toBeNull();
  expect(
    json<BatchAnswer>("batch-regression.json").samples.every(
      ({ target, confidence }) => target === null && confidence === null,
    ),
  ).toBe(true);
});

test("the worst sample of a batch comes first and its scores with it", () => {
  const { samples } = json<BatchAnswer>("batch.json");
  const losses = samples.map(({ loss }) => loss ?? Number.NEGATIVE_INFINITY);
  expect(losses).toEqual([...losses].sort((a, b) => b - a));
  const sample = json<SampleAnswer>("sample.json");
  expect(sample.scores.map(({ score }) => score)).toEqual(
    sample.scores.map(({ score }) => score ?? 0).sort((a, b) => b - a),
  );
  expect(sample.top).toEqual(sample.scores.slice(0, 3));
});

test("classes, matrices and batches of run B are as their types say, and belong to those of A", () => {
  const { against, calibration_error, classes } = json<ClassesAnswer>("classes-against.json");
  expect(against?.matched_by).toBe("name");
  expect(calibration_error).toBeTypeOf("number");
  const changes = classes.map(({ change }) => change?.recall ?? Number.NaN);
  expect(changes).toEqual([...changes].sort((a, b) => a - b));
  for (const { recall, change, against: other } of classes)
    expect(change?.recall).toBeCloseTo((recall ?? Number.NaN) - (other?.recall ?? Number.NaN), 8);
  const confusion = block<ConfusionHeader>("confusion-against.bin");
  const matrix = pairedOf(confusion);
  if (matrix === null) throw new Error("the matrix of run B must be there");
  const model = new DeltaModel(matrix, {
    names: null,
    cells: "row",
    order: "index",
    log: false,
    diagonal: true,
  });
  const recalls = [...classes]
    .sort((a, b) => a.class - b.class)
    .map(({ change }) => change?.recall ?? Number.NaN);
  for (const [row, change] of recalls.entries()) expect(model.value(row, row)).toBeCloseTo(change, 12);
  expect(confusion.header.against?.samples).toBe(against?.samples);
  const { rows } = json<BatchesAnswer>("batches-against.json");
  expect(rows.map(({ against: other }) => other?.step ?? null)).toEqual([
    ...rows.slice(0, 3).map(({ step }) => step),
    null,
    null,
    null,
  ]);
  const joined = json<JoinedAnswer>("joined.json");
  expect(Object.values(joined.counts).reduce((sum, value) => sum + value, 0)).toBe(joined.total);
  const kinds = {
    "true,true": "both_correct",
    "true,false": "only_a",
    "false,true": "only_b",
    "false,false": "both_wrong",
  };
  for (const { against: other, joint, ...sample } of joined.samples) {
    const right = [sample, other].map(({ target, predicted }) => target === predicted);
    expect(joint).toBe(kinds[String(right) as keyof typeof kinds]);
    expect(other.id).toBe(sample.id);
  }
  expect(joined.samples.length).toBeGreaterThan(0);
  const [alone, beside] = ["layer.bin", "layer-against.bin"].map((name) => block<LayerHeader>(name).header);
  expect(beside?.high).toBe(alone?.high);
});

test("a phase with texts says so, and a text is asked for by its sample", () => {
  const tags = json<RunsAnswer>("runs.json").runs.find(({ name }) => name === "tags");
  expect(tags?.phases.map(({ inputs }) => inputs)).toEqual(["text"]);
  expect(json("thumbnail-text.json")).toEqual({ text: "picture 1 of step 2" });
});
