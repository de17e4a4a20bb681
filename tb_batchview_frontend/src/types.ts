// The answers of the plugin, key for key as docs/http-api.md has them. Nothing here is renamed or reshaped.

export type Task = "multiclass" | "binary" | "multilabel" | "regression";
export type Outcome = "all" | "correct" | "wrong" | "confidently_wrong";

/** NaN and the infinities have been revived from their strings; `null` is "not available". */
export type Figure = number | null;

export interface PhaseSummary {
  name: string;
  batches: number;
  seen: number;
  samples: number;
  first_step: Figure;
  last_step: Figure;
  epochs: number;
  updated: Figure;
  /** What can be shown of what the model was given. */
  inputs: "images" | "text" | null;
}

export interface Output {
  name: string;
  task: Task;
  classes: number;
  activation: "softmax" | "sigmoid" | null;
  class_names?: string[] | null;
}

export interface HealthWarning {
  kind: string;
  message: string;
  count: number;
}

export interface Health {
  files: number;
  bytes: number;
  corrupt_records: number;
  torn_files: number;
  refused_files: number;
  dropped_batches: number;
  workers: number;
  warnings: HealthWarning[];
}

/** How far the event files are read, while they are; both are 0 until it is known which runs there are. */
export interface Indexing {
  read_bytes: number;
  bytes: number;
}

export interface Run {
  name: string;
  updated: Figure;
  indexing: Indexing | null;
  phases: PhaseSummary[];
  outputs: Output[];
  metrics: string[];
  layers: string[];
  health: Health;
}

/** What `tb-batchview doctor` says; `remedy` is "" where nothing is wrong. */
export interface DoctorAnswer {
  findings: { about: string; state: string; remedy: string }[];
}

/** Where the runs are from if TensorBoard has no log directory; `failure` is "" unless it could not be asked last time. */
export interface DataProvider {
  location: string;
  failure: string;
}

export interface RunsAnswer {
  format_version: number;
  plugin_version: string;
  logdir: string;
  data_provider: DataProvider | null;
  indexing: Indexing | null;
  runs: Run[];
}

export interface Outcomes {
  correct_confident: number;
  correct_unsure: number;
  wrong_unsure: number;
  wrong_confident: number;
}

export interface TimelineHeader {
  batches: number;
  samples: number;
  bucket: number;
  first_step: Figure;
  last_step: Figure;
  error_rate: Figure;
  loss: Figure;
  outcomes: Outcomes | null;
  epochs: { epoch: number; step: number }[];
  spikes: Spike[];
}

export interface Confusion {
  target: number;
  predicted: number;
  count: number;
}

/** A batch whose loss stands out; `ratio` is to the batches before, `null` where the loss stops being finite. */
export interface Spike {
  step: number;
  epoch: Figure;
  loss: number;
  ratio: Figure;
  error_rate: Figure;
  worst: Confusion | null;
}

export interface BatchRow {
  step: number;
  epoch: Figure;
  index: Figure;
  size: number;
  wall_time: number;
  loss: Figure;
  error_rate: Figure;
  confidence: Figure;
  metrics: Record<string, Figure>;
  worst: Confusion | null;
  /** The batch of the same step in run B. */
  against?: Omit<BatchRow, "worst" | "against"> | null;
}

/** A page of rows: `offset` is that of its first row, `total` counts the rows of all pages. */
export interface Page {
  total: number;
  offset: number;
}

export interface BatchesAnswer extends Page {
  metrics: string[];
  maxima: Record<string, Figure>;
  rows: BatchRow[];
}

export interface Score {
  class: number;
  score: Figure;
}

/** How a sample was learned, by its id. */
export interface Dynamics {
  seen: number;
  mean_target_score: Figure;
  variability: Figure;
  correctness: Figure;
  forgetting: number;
  margin: Figure;
}

export interface Sample {
  step: number;
  sample: number;
  id: string | number | null;
  target: Figure;
  predicted: Figure;
  confidence: Figure;
  target_score: Figure;
  loss: Figure;
  error: Figure;
  weight?: Figure;
  top?: Score[];
  dynamics?: Dynamics | null;
  /** Of a regression: its first values. */
  values?: { target: Figure; predicted: Figure }[];
}

/** One time that a sample was seen. */
export type SampleTime = Omit<Sample, "id" | "weight" | "top" | "dynamics" | "values"> & { epoch: number };

/** Values of a regression stand in `scores` and `target_values`, all of them. */
export interface SampleAnswer extends Omit<Sample, "values"> {
  classes: number;
  scores: Score[];
  target_values?: Figure[];
  seen: number;
  history: SampleTime[];
  history_refused: string | null;
}

export interface ClassMix {
  class: number;
  target: number;
  predicted: number;
}

export interface LayerFigures {
  mean: Figure;
  std: Figure;
  zero_fraction: Figure;
}

export interface BatchAnswer extends Page {
  step: number;
  epoch: Figure;
  index: Figure;
  size: number;
  wall_time: number;
  loss: Figure;
  metrics: Record<string, Figure>;
  error_rate: Figure;
  confidence: Figure;
  previous: number | null;
  next: number | null;
  counts: { all: number; wrong: number; confidently_wrong: number };
  class_mix: ClassMix[];
  samples: Sample[];
  layers: (LayerFigures & { layer: string; before: LayerFigures | null })[];
  summarised: number | null;
}

export interface DataMapHeader {
  ids: number;
  shown: number;
  samples: number;
  names: string[];
}

export interface SamplesAnswer extends Page {
  identified: boolean;
  samples: Sample[];
}

export type Joint = "both_correct" | "only_a" | "only_b" | "both_wrong";

/** A sample that both runs saw: as A saw it last, with what B made of it. */
export interface JoinedSample extends Sample {
  against: Sample;
  joint: Joint;
}

export interface JoinedAnswer extends Page {
  identified: boolean;
  identified_against: boolean;
  counts: Record<Joint, number>;
  only_in_a: number;
  only_in_b: number;
  targets_differ: number;
  samples: JoinedSample[];
}

export interface ClassRow {
  class: number;
  support: number;
  predicted: number;
  precision: Figure;
  precision_low: Figure;
  precision_high: Figure;
  recall: Figure;
  recall_low: Figure;
  recall_high: Figure;
  f1: Figure;
  f1_low: Figure;
  f1_high: Figure;
  most_confused: { class: number; count: number } | null;
  /** The matching class of run B, this one's figures less its, and whether the intervals do not overlap. */
  against?: ClassRow | null;
  change?: Record<"support" | "precision" | "recall" | "f1", Figure>;
  apart?: Record<"precision" | "recall" | "f1", boolean>;
}

/** How the classes of run B were matched: `unmatched` of A's have none there, `missing` of B's are left over. */
export interface MatchedClasses {
  batches: number;
  samples: number;
  matched_by: "name" | "number";
  unmatched: number;
  missing: number;
}

/** Figures of run B over all classes; of a regression only the error. */
export interface Against extends Partial<MatchedClasses> {
  batches: number;
  samples: number;
  accuracy?: Figure;
  macro_f1?: Figure;
  calibration_error?: Figure;
  accuracy_apart?: boolean;
  mean_absolute_error?: Figure;
}

export interface ClassesAnswer extends Page {
  batches: number;
  samples: number;
  accuracy?: Figure;
  macro_f1?: Figure;
  mean_absolute_error?: Figure;
  calibration_error?: Figure;
  against?: Against;
  classes: ClassRow[];
}

export interface ConfusionHeader {
  batches: number;
  samples: number;
  classes: number;
  shown: number;
  against?: MatchedClasses & { classes: number };
}

export interface TrendHeader {
  batches: number;
  window: number;
  classes: number;
  shown: number;
}

export interface ReliabilityBin {
  low: number;
  high: number;
  count: number;
  confidence: Figure;
  accuracy: Figure;
}

export interface CalibrationAnswer {
  batches: number;
  samples: number;
  error: Figure;
  greatest_error: Figure;
  bins: ReliabilityBin[];
}

export interface ThresholdsHeader {
  batches: number;
  positives: number;
  negatives: number;
  steps: number;
  roc_auc: Figure;
  average_precision: Figure;
}

export interface ResidualsHeader {
  batches: number;
  samples: number;
  drawn: number;
  values: number;
}

export interface LayerRow {
  name: string;
  batches: number;
  first_step: Figure;
  last_step: Figure;
  units: Figure;
  mean: Figure;
  std: Figure;
  min: Figure;
  max: Figure;
  zero_fraction: Figure;
}

export interface LayersAnswer {
  layers: LayerRow[];
}

export interface LayerHeader {
  layer: string;
  batches: number;
  window: number;
  /** Of a layer, not of its gradient. */
  units?: Figure;
  average: Record<"mean" | "std" | "min" | "max" | "zero_fraction" | "nonfinite", Figure>;
  low: number;
  high: number;
  /** Ends of all values; the axis may be shorter. */
  least: Figure;
  greatest: Figure;
  bins: number;
}

export type UnitFigure = "mean" | "zero_fraction" | "saturated_fraction";

export interface UnitsHeader {
  layer: string;
  batches: number;
  window: number;
  units: number;
  shown: number;
  figure: UnitFigure;
  figures: UnitFigure[];
}

export interface UnitList {
  total: number;
  units: number[];
}

export interface DeadUnitsAnswer {
  layer: string;
  batches: number;
  first_step: Figure;
  last_step: Figure;
  units: Figure;
  dead: UnitList;
  saturated: UnitList;
}

export interface GradientsHeader {
  batches: number;
  window: number;
  total: number;
  layers: { name: string; batches: number; nonfinite: number }[];
}

export type Column = Float32Array | Float64Array | Int32Array | Uint32Array | Uint16Array | Uint8Array;

/** An array answer: its header and its arrays by name. */
export interface Block<Header> {
  header: Header;
  arrays: Record<string, { values: Column; shape: number[] }>;
}
