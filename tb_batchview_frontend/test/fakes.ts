// Answers to test against, and a plugin that gives them when told to.

import { afterEach, beforeEach, vi } from "vitest";
import type { RunsAnswer, Sample } from "../src/types.js";

export const HOSTILE = '<img src=x onerror="window.hacked = true">';

export const SAMPLE: Sample = {
  step: 4,
  sample: 7,
  id: null,
  target: 3,
  predicted: 5,
  confidence: 0.97,
  target_score: 0.012,
  loss: 4.31,
  weight: null,
  error: 1,
  top: [
    { class: 5, score: 0.97 },
    { class: 3, score: 0.012 },
  ],
};

export function runsAnswer(change: Partial<RunsAnswer["runs"][number]> = {}): RunsAnswer {
  return {
    format_version: 1,
    plugin_version: "0.1.0",
    logdir: "/home/ada/logs",
    data_provider: null,
    indexing: null,
    runs: [
      {
        name: "digits",
        updated: 1000,
        indexing: null,
        phases: [
          {
            name: "train",
            batches: 720,
            seen: 732,
            samples: 46080,
            first_step: 0,
            last_step: 731,
            epochs: 10,
            updated: 1000,
            inputs: null,
          },
          {
            name: "validation",
            batches: 90,
            seen: 90,
            samples: 5760,
            first_step: 0,
            last_step: 89,
            epochs: 10,
            updated: 990,
            inputs: null,
          },
        ],
        outputs: [
          { name: "probabilities", task: "multiclass", classes: 10, activation: null, class_names: null },
        ],
        metrics: ["accuracy"],
        layers: ["dense"],
        health: {
          files: 1,
          bytes: 5123456,
          corrupt_records: 0,
          torn_files: 0,
          refused_files: 0,
          dropped_batches: 0,
          workers: 1,
          warnings: [],
        },
        ...change,
      },
    ],
  };
}

/** A promise and the functions that settle it: an answer that comes when the test says so. */
export function later<Value>(): {
  promise: Promise<Value>;
  resolve: (value: Value) => void;
  reject: (error: Error) => void;
} {
  let resolve: (value: Value) => void = () => undefined;
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<Value>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

/** Let all promises that are settled run their followers. */
export const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

/** Encode an array answer as docs/http-api.md says, independently of the decoder. */
export function encodeBlock(
  header: Record<string, unknown>,
  arrays: { name: string; dtype: string; shape: number[]; bytes: Uint8Array }[],
): ArrayBuffer {
  const padded = (length: number): number => Math.ceil(length / 8) * 8;
  let offset = 0;
  const entries = arrays.map(({ name, dtype, shape, bytes }) => {
    const entry = { name, dtype, shape, offset };
    offset += padded(bytes.length);
    return entry;
  });
  const text = new TextEncoder().encode(JSON.stringify({ ...header, arrays: entries }));
  const begin = 8 + padded(text.length);
  const buffer = new Uint8Array(begin + offset).fill(32, 0, begin);
  buffer.set(new TextEncoder().encode("BVA1"));
  new DataView(buffer.buffer).setUint32(4, begin - 8, true);
  buffer.set(text, 8);
  for (const [index, { bytes }] of arrays.entries()) buffer.set(bytes, begin + (entries[index]?.offset ?? 0));
  return buffer.buffer;
}

export const bytesOf = (values: ArrayBufferView): Uint8Array =>
  new Uint8Array(values.buffer.slice(0) as ArrayBuffer);

/** Answer fetches from a table of routes; what is asked for is kept in `asked`. */
export function fakePlugin(routes: Record<string, (query: URLSearchParams) => unknown>): { asked: string[] } {
  const asked: string[] = [];
  vi.stubGlobal("fetch", async (address: string) => {
    asked.push(address);
    const [path = "", query = ""] = address.replace("./", "").split("?");
    const answer = routes[path]?.(new URLSearchParams(query));
    if (answer === undefined) return new Response(`no route ${path}`, { status: 404 });
    if (answer instanceof Response) return answer;
    return answer instanceof ArrayBuffer ? new Response(answer) : new Response(JSON.stringify(answer));
  });
  return { asked };
}

export const TIMELINE_HEADER = {
  batches: 720,
  samples: 46080,
  bucket: 1,
  first_step: 0,
  last_step: 731,
  error_rate: 0.081,
  loss: 0.31,
  outcomes: { correct_confident: 40000, correct_unsure: 2000, wrong_unsure: 3000, wrong_confident: 1080 },
  epochs: [{ epoch: 0, step: 0 }],
  spikes: [
    {
      step: 417,
      epoch: 5,
      loss: 1.95,
      ratio: 9.4,
      error_rate: 0.34,
      worst: { target: 3, predicted: 5, count: 9 },
    },
  ],
};

const FLOATS = [
  "loss_mean",
  "loss_min",
  "loss_max",
  "loss_smooth",
  "error_mean",
  "error_min",
  "error_max",
  "confidence_mean",
];

export function timelineBlock(change: Record<string, unknown> = {}): ArrayBuffer {
  return encodeBlock({ ...TIMELINE_HEADER, ...change }, [
    { name: "step", dtype: "float64", shape: [2], bytes: bytesOf(new Float64Array([0, 1])) },
    ...FLOATS.map((name) => ({
      name,
      dtype: "float32",
      shape: [2],
      bytes: bytesOf(new Float32Array([1, 2])),
    })),
    { name: "nonfinite", dtype: "uint32", shape: [2], bytes: bytesOf(new Uint32Array([0, 0])) },
  ]);
}

const FIGURES = { mean_target_score: 0.25, variability: 0.125, correctness: 0.5, margin: -0.5 };

/** A data map of a few ids, all with the same figures. */
export function mapBlock(names: string[], change: Record<string, unknown> = {}): ArrayBuffer {
  const shape = [names.length];
  const counts = new Uint32Array(names.length).fill(7);
  return encodeBlock({ ids: names.length, shown: names.length, samples: 6, names, ...change }, [
    { name: "step", dtype: "float64", shape, bytes: bytesOf(new Float64Array(names.length).fill(4)) },
    ...["sample", "seen", "forgetting"].map((name) => ({
      name,
      dtype: "uint32",
      shape,
      bytes: bytesOf(counts),
    })),
    ...Object.entries(FIGURES).map(([name, value]) => ({
      name,
      dtype: "float32",
      shape,
      bytes: bytesOf(new Float32Array(names.length).fill(value)),
    })),
  ]);
}

/** happy-dom lays nothing out: give every element a size, so that tables have rows in view. */
export function layOut(): void {
  beforeEach(() => {
    vi.spyOn(HTMLElement.prototype, "clientHeight", "get").mockReturnValue(400);
    vi.spyOn(HTMLElement.prototype, "clientWidth", "get").mockReturnValue(600);
  });
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.restoreAllMocks();
    vi.useRealTimers();
    document.body.replaceChildren();
  });
}

/** Norms of 1, 2, … in two windows; the first layer is NaN in the second one. */
export function gradientsBlock(names: string[]): ArrayBuffer {
  const { length } = names;
  const norms = Float32Array.from({ length: 2 * length }, (_, at) =>
    at === length ? Number.NaN : (at % length) + 1,
  );
  const broken = Uint32Array.from({ length: 2 * length }, (_, at) => (at === length ? 1 : 0));
  const layers = names.map((name, at) => ({ name, batches: 2, nonfinite: at === 0 ? 1 : 0 }));
  return encodeBlock({ batches: 2, window: 1, total: length, layers }, [
    { name: "step", dtype: "float64", shape: [2], bytes: bytesOf(new Float64Array([0, 10])) },
    ...["mean", "min", "max"].map((name) => ({
      name,
      dtype: "float32",
      shape: [2, length],
      bytes: bytesOf(norms),
    })),
    { name: "nonfinite", dtype: "uint32", shape: [2, length], bytes: bytesOf(broken) },
  ]);
}
