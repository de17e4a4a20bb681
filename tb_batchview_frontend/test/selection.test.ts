import { expect, test } from "vitest";
import { joinHash, splitHash } from "../src/host.js";
import { fromAddress, INITIAL, type Selection, toAddress } from "../src/selection.js";

const EVERYTHING: Selection = {
  tab: "classes",
  run: "a/b & c=d #1 %",
  phase: "validation",
  output: "NaN",
  runB: "exp 2 & more",
  phaseB: "validation",
  outputB: "logits",
  ownB: true,
  startB: 3,
  stopB: 99,
  axis: "share",
  joint: "only_a",
  together: false,
  joinSort: { column: "loss", descending: false },
  delta: false,
  start: 0,
  stop: 540,
  batch: 417,
  sample: { step: 417, sample: 7 },
  target: 3,
  predicted: 0,
  outcome: "confidently_wrong",
  layer: "conv2d/1",
  cells: "column",
  order: "errors",
  log: true,
  diagonal: false,
  part: { row: 12.5, column: 40, size: 20.25 },
  threshold: 0.4502,
  value: 2,
  folded: "trend.calibration",
  logLoss: true,
  zoom: true,
  allValues: true,
  map: false,
  confidence: [0.25, null],
  loss: [null, 1e-9],
  id: "a~b&c=#\u0000",
  idPart: "ein Teil ",
  each: "last",
  learning: "never_learned",
  box: [0, 0.351, 0.1, 0.5],
  unitFigure: "zero_fraction",
  unitOrder: "zeros",
  last: 50,
  batchSort: { column: "metrics.top-k accuracy", descending: true },
  spikeSort: { column: "loss", descending: true },
  sampleSort: { column: "confidence", descending: false },
  classSort: { column: "f1", descending: true },
  pairSort: { column: "share", descending: true },
};

test("a selection comes back whole from TensorBoard's hash", () => {
  const { ours } = splitHash(joinHash(toAddress(EVERYTHING), ["batchview"]));
  expect(fromAddress(ours)).toEqual(EVERYTHING);
});

test("what is as at first is not in the address", () => {
  expect(toAddress(INITIAL)).toEqual({});
  expect(toAddress({ ...INITIAL, batch: 0 })).toEqual({ batch: "0" });
});

test("nonsense in the address is left out", () => {
  const typed = {
    tab: "secrets",
    start: "-3",
    stop: "1e9",
    batch: "4.5",
    sample: "4",
    outcome: "",
    log: "yes",
    cells: "__proto__",
    batchSort: "-",
    order: "clustered2",
    part: "1_2_0",
    confidence: "1~0",
    loss: "~",
    each: "first",
    box: "0~1~0",
    threshold: "1.5",
    value: "-1",
    folded: "<b>",
  };
  expect(fromAddress(typed)).toEqual(INITIAL);
});

test("keys of others in the hash stay where they are", () => {
  const { ours, rest } = splitHash(
    "#batchview&p.batchview.run=a%2Fb&p.other.run=x&tagFilter=loss&p.batchview.bad=%E0%A4%A",
  );
  expect([ours, rest]).toEqual([{ run: "a/b" }, ["batchview", "p.other.run=x", "tagFilter=loss"]]);
  expect(joinHash({ run: "c" }, rest)).toBe("#batchview&p.other.run=x&tagFilter=loss&p.batchview.run=c");
});
