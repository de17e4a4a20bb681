// The only module that talks to the plugin: one function a route, answers decoded as docs/http-api.md says.

import type {
  BatchAnswer,
  BatchesAnswer,
  Block,
  CalibrationAnswer,
  ClassesAnswer,
  Column,
  ConfusionHeader,
  DataMapHeader,
  DeadUnitsAnswer,
  DoctorAnswer,
  GradientsHeader,
  JoinedAnswer,
  LayerHeader,
  LayersAnswer,
  ResidualsHeader,
  RunsAnswer,
  SampleAnswer,
  SamplesAnswer,
  ThresholdsHeader,
  TimelineHeader,
  TrendHeader,
  UnitsHeader,
} from "./types.js";

export type Query = Record<string, string | number | null | undefined>;

/** What the plugin refused, in its own sentence. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

/** Keys that hold text: a class may well be called "NaN". */
const TEXT = new Set([
  "name",
  "names",
  "matched_by",
  "joint",
  "id",
  "class_names",
  "logdir",
  "message",
  "kind",
  "layer",
  "layers",
  "metrics",
  "plugin_version",
  "task",
  "activation",
  "text",
  "about",
  "state",
  "remedy",
]);
const SPECIAL: Record<string, number> = {
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  "-Infinity": Number.NEGATIVE_INFINITY,
};

/** Turn "NaN", "Infinity" and "-Infinity" back into numbers wherever a number is meant. */
export function revive(value: unknown, text = false): unknown {
  if (typeof value === "string") return text ? value : (SPECIAL[value] ?? value);
  if (Array.isArray(value)) return value.map((item) => revive(item, text));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => {
      const figures = key === "metrics" || key === "maxima";
      if (figures && item !== null && typeof item === "object" && !Array.isArray(item)) {
        return [
          key,
          Object.fromEntries(Object.entries(item).map(([name, figure]) => [name, revive(figure)])),
        ];
      }
      return [key, revive(item, TEXT.has(key))];
    }),
  );
}

const COLUMNS = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  uint32: Uint32Array,
  uint16: Uint16Array,
  uint8: Uint8Array,
} as const;

interface ArrayEntry {
  name: string;
  dtype: keyof typeof COLUMNS;
  shape: number[];
  offset: number;
}

/** Decode an array answer; the columns are views into `buffer`, not copies. */
export function decodeBlock<Header>(buffer: ArrayBuffer): Block<Header> {
  const view = new DataView(buffer);
  const magic = buffer.byteLength >= 8 ? view.getUint32(0, false) : 0;
  if (magic !== 0x42564131) {
    throw new Error(
      "An array answer must begin with BVA1. Reload the page: viewer and plugin may be of different versions.",
    );
  }
  const begin = 8 + view.getUint32(4, true);
  const header = revive(
    JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, begin - 8))),
  ) as Header & {
    arrays: ArrayEntry[];
  };
  const arrays: Block<Header>["arrays"] = {};
  for (const { name, dtype, shape, offset } of header.arrays) {
    const length = shape.reduce((product, size) => product * size, 1);
    const values: Column = new COLUMNS[dtype](buffer, begin + offset, length);
    arrays[name] = { values, shape };
  }
  return { header, arrays };
}

/** Write the address of a route, relative to the page, so that proxies and path prefixes do no harm. */
export function address(route: string, query: Query = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return text === "" ? `./${route}` : `./${route}?${text}`;
}

async function get(route: string, query: Query, signal: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(address(route, query), { signal });
  } catch (cause) {
    if (signal.aborted) throw cause;
    throw new ApiError("TensorBoard does not answer. Is it still running?", 0);
  }
  if (response.ok) return response;
  // TensorBoard puts the kind of error before the plugin's sentence; the status says it already.
  const sentence = (await response.text()).trim().replace(/^(Invalid argument|Not found): /, "");
  // A page of HTML or a trace is no sentence for the reader.
  const readable = sentence !== "" && sentence.length < 2000 && !sentence.startsWith("<");
  throw new ApiError(
    readable ? sentence : `TensorBoard answered ${response.status} to ${route}.`,
    response.status,
  );
}

async function json<Answer>(route: string, query: Query, signal: AbortSignal): Promise<Answer> {
  return revive(await (await get(route, query, signal)).json()) as Answer;
}

async function block<Header>(route: string, query: Query, signal: AbortSignal): Promise<Block<Header>> {
  return decodeBlock<Header>(await (await get(route, query, signal)).arrayBuffer());
}

export const fetchRuns = (query: Query, signal: AbortSignal) => json<RunsAnswer>("runs", query, signal);
export const fetchDoctor = (query: Query, signal: AbortSignal) => json<DoctorAnswer>("doctor", query, signal);
export const fetchBatches = (query: Query, signal: AbortSignal) =>
  json<BatchesAnswer>("batches", query, signal);
export const fetchTimeline = (query: Query, signal: AbortSignal) =>
  block<TimelineHeader>("batches", query, signal);
export const fetchBatch = (query: Query, signal: AbortSignal) => json<BatchAnswer>("batch", query, signal);
export const fetchSample = (query: Query, signal: AbortSignal) => json<SampleAnswer>("sample", query, signal);
/** The text of a sample; a picture is shown by its address. */
export const fetchInput = (query: Query, signal: AbortSignal) =>
  json<{ text: string }>("thumbnail", query, signal);
export const fetchSamples = (query: Query, signal: AbortSignal) =>
  json<SamplesAnswer>("samples", query, signal);
export const fetchDataMap = (query: Query, signal: AbortSignal) =>
  block<DataMapHeader>("data_map", query, signal);
export const fetchJoined = (query: Query, signal: AbortSignal) => json<JoinedAnswer>("joined", query, signal);
export const fetchClasses = (query: Query, signal: AbortSignal) =>
  json<ClassesAnswer>("classes", query, signal);
export const fetchConfusion = (query: Query, signal: AbortSignal) =>
  block<ConfusionHeader>("confusion", query, signal);
export const fetchTrend = (query: Query, signal: AbortSignal) =>
  block<TrendHeader>("class_trend", query, signal);
export const fetchCalibration = (query: Query, signal: AbortSignal) =>
  json<CalibrationAnswer>("calibration", query, signal);
export const fetchThresholds = (query: Query, signal: AbortSignal) =>
  block<ThresholdsHeader>("thresholds", query, signal);
export const fetchResiduals = (query: Query, signal: AbortSignal) =>
  block<ResidualsHeader>("residuals", query, signal);
export const fetchLabelErrors = (query: Query, signal: AbortSignal) =>
  block<ConfusionHeader>("label_errors", query, signal);
export const fetchLayers = (query: Query, signal: AbortSignal) => json<LayersAnswer>("layers", query, signal);
export const fetchLayer = (query: Query, signal: AbortSignal) => block<LayerHeader>("layer", query, signal);
export const fetchUnits = (query: Query, signal: AbortSignal) => block<UnitsHeader>("units", query, signal);
export const fetchDeadUnits = (query: Query, signal: AbortSignal) =>
  json<DeadUnitsAnswer>("dead_units", query, signal);
export const fetchGradients = (query: Query, signal: AbortSignal) =>
  block<GradientsHeader>("gradients", query, signal);
export const fetchGradient = (query: Query, signal: AbortSignal) =>
  block<LayerHeader>("gradient", query, signal);
