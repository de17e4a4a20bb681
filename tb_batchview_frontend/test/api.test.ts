import { afterEach, expect, test, vi } from "vitest";
import { address, decodeBlock, fetchBatch, fetchRuns, revive } from "../src/api.js";
import { bytesOf, encodeBlock, fakePlugin, runsAnswer } from "./fakes.js";

afterEach(() => vi.unstubAllGlobals());
const signal = new AbortController().signal;

test("numbers that are not finite come back from their strings", () => {
  const answer = {
    loss: "NaN",
    metrics: { accuracy: "Infinity", name: "-Infinity" },
    target_values: ["NaN", 1],
    spikes: [{ loss: "Infinity" }],
  };
  expect(revive(answer)).toEqual({
    loss: Number.NaN,
    metrics: { accuracy: Number.POSITIVE_INFINITY, name: Number.NEGATIVE_INFINITY },
    target_values: [Number.NaN, 1],
    spikes: [{ loss: Number.POSITIVE_INFINITY }],
  });
});

test("names stay text, whatever they spell", () => {
  const answer = {
    name: "NaN",
    id: "Infinity",
    class_names: ["NaN", "-Infinity"],
    metrics: ["NaN"],
    layers: ["Infinity"],
    warnings: [{ kind: "NaN", message: "NaN" }],
  };
  expect(revive(answer)).toEqual(answer);
});

test("an array answer gives its header and views into the one buffer", () => {
  const buffer = encodeBlock({ shown: 2, loss: "NaN" }, [
    { name: "labels", dtype: "int32", shape: [3], bytes: bytesOf(new Int32Array([-1, 4, 7])) },
    { name: "step", dtype: "float64", shape: [2], bytes: bytesOf(new Float64Array([0.5, 2 ** 40])) },
    {
      name: "counts",
      dtype: "uint32",
      shape: [2, 2],
      bytes: bytesOf(new Uint32Array([1, 2, 3, 4_000_000_000])),
    },
    { name: "empty", dtype: "float32", shape: [0, 60], bytes: new Uint8Array() },
    { name: "mask", dtype: "uint8", shape: [1], bytes: new Uint8Array([255]) },
    { name: "hits", dtype: "uint16", shape: [2], bytes: bytesOf(new Uint16Array([256, 65_535])) },
  ]);
  const { header, arrays } = decodeBlock<{ shown: number; loss: number }>(buffer);
  expect([header.shown, header.loss]).toEqual([2, Number.NaN]);
  expect(
    Object.fromEntries(
      Object.entries(arrays).map(([name, { values, shape }]) => [name, [Array.from(values), shape]]),
    ),
  ).toEqual({
    labels: [[-1, 4, 7], [3]],
    step: [[0.5, 2 ** 40], [2]],
    counts: [
      [1, 2, 3, 4_000_000_000],
      [2, 2],
    ],
    empty: [[], [0, 60]],
    mask: [[255], [1]],
    hits: [[256, 65_535], [2]],
  });
  expect(arrays.step?.values.buffer).toBe(buffer);
});

test.each([new ArrayBuffer(0), new TextEncoder().encode("<!doctype html>").buffer as ArrayBuffer])(
  "what is no array answer is refused with a remedy",
  (buffer) => {
    expect(() => decodeBlock(buffer)).toThrow(/must begin with BVA1.*Reload/);
  },
);

test("an address leaves out what is not set and escapes the rest", () => {
  expect(address("batch", { run: "a/b & c", step: 0, target: null, output: "", outcome: undefined })).toBe(
    "./batch?run=a%2Fb+%26+c&step=0",
  );
  expect(address("runs")).toBe("./runs");
});

test("the plugin's sentence is the error, without TensorBoard's prefix", async () => {
  fakePlugin({
    batch: () => new Response("Not found: step must be recorded. Received: step=9.\n", { status: 404 }),
  });
  await expect(fetchBatch({ step: 9 }, signal)).rejects.toMatchObject({
    message: "step must be recorded. Received: step=9.",
    status: 404,
  });
});

test("a page of HTML is no error message", async () => {
  fakePlugin({ runs: () => new Response("<html>Internal</html>", { status: 500 }) });
  await expect(fetchRuns({}, signal)).rejects.toThrow("TensorBoard answered 500 to runs.");
});

test("a server that is gone is said in words", async () => {
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("Failed to fetch")));
  await expect(fetchRuns({}, signal)).rejects.toThrow("TensorBoard does not answer");
});

test("an ordinary answer arrives as it is", async () => {
  fakePlugin({ runs: () => runsAnswer() });
  expect(await fetchRuns({}, signal)).toEqual(runsAnswer());
});
