// The one store: what is selected, the answers that selection needs, and the actions that change it.
// Views read it and call its actions; `main` connects it to the host.

import { Ahead } from "./ahead.js";
import * as api from "./api.js";
import {
  BATCH_SORTS,
  type Chosen,
  CLASS_SORTS,
  choose,
  fingerprint,
  hasPairs,
  ID_SORTS,
  isMulticlass,
  PAIR_SORTS,
  RANGE_SORTS,
  SAMPLE_SORTS,
  SPIKE_SORTS,
  usable,
} from "./choice.js";
import { BATCH_CHANGES, CLASS_CHANGES, chooseOther, type Other, restOf } from "./compare.js";
import { Comparison } from "./comparison.js";
import { PAGE, Pages, Resource } from "./resource.js";
import { filterQuery, NO_FILTER } from "./sample_filter.js";
import { INITIAL, type Selection, type Sort, toAddress } from "./selection.js";
import type {
  BatchAnswer,
  BatchesAnswer,
  BatchRow,
  Block,
  CalibrationAnswer,
  ClassesAnswer,
  ClassRow,
  ConfusionHeader,
  DataMapHeader,
  DeadUnitsAnswer,
  DoctorAnswer,
  GradientsHeader,
  Indexing,
  LayerHeader,
  LayerRow,
  LayersAnswer,
  Output,
  ResidualsHeader,
  RunsAnswer,
  Sample,
  SampleAnswer,
  SamplesAnswer,
  ThresholdsHeader,
  TimelineHeader,
  TrendHeader,
  UnitsHeader,
} from "./types.js";

export const POINTS = 1000;
const WINDOWS = 200;
const MAPPED = 5000;
const DRAWN = 5000;
const SETTLED = 300;
/** Rows of the heatmap of units: what there is room for. */
const UNITS = 200;

// A key that is held down must not run on for long after it is let go.
const MOST_OWED = 10;

/** Answers that are asked for of run B as of A. */
export type Pictured = Pick<
  Store,
  | "layers"
  | "layer"
  | "trend"
  | "calibration"
  | "thresholds"
  | "residuals"
  | "labelErrors"
  | "units"
  | "deadUnits"
  | "gradients"
  | "gradient"
> & { readonly timeline: Block<TimelineHeader> | null };

export class Store {
  live = true;
  visible = true;
  dark = false;
  help = false;
  /** The sheet of what `doctor` finds is open. */
  checkup = false;
  search = "";
  /** Words in the names of the runs to choose from. */
  runWords = "";
  /** A threshold that is just being moved, until it has come to rest in the address. */
  sliding: number | null = null;
  /** A line that says what has just been done, read out by screen readers. */
  notice = "";
  /** Row on which the batch was chosen in the table; `null` when it was chosen elsewhere. */
  private batchRow: number | null = null;

  readonly runs: Resource<RunsAnswer>;
  readonly detail: Resource<RunsAnswer>;
  readonly overview: Resource<Block<TimelineHeader>>;
  readonly range: Resource<Block<TimelineHeader>>;
  readonly find: Resource<BatchesAnswer>;
  readonly sample: Resource<SampleAnswer>;
  readonly confusion: Resource<Block<ConfusionHeader>>;
  readonly dataMap: Resource<Block<DataMapHeader>>;
  readonly trend: Resource<Block<TrendHeader>>;
  readonly calibration: Resource<CalibrationAnswer>;
  readonly thresholds: Resource<Block<ThresholdsHeader>>;
  readonly residuals: Resource<Block<ResidualsHeader>>;
  readonly labelErrors: Resource<Block<ConfusionHeader>>;
  readonly layers: Resource<LayersAnswer>;
  readonly layer: Resource<Block<LayerHeader>>;
  readonly units: Resource<Block<UnitsHeader>>;
  readonly deadUnits: Resource<DeadUnitsAnswer>;
  readonly gradients: Resource<Block<GradientsHeader>>;
  readonly gradient: Resource<Block<LayerHeader>>;
  readonly doctor: Resource<DoctorAnswer>;
  readonly batches: Pages<BatchesAnswer, BatchRow>;
  readonly batch: Pages<BatchAnswer, Sample>;
  readonly samples: Pages<SamplesAnswer, Sample>;
  readonly classes: Pages<ClassesAnswer, ClassRow>;
  /** Run B. */
  readonly versus: Comparison;
  private dirty = false;
  /** The batches before and after the shown one. */
  private readonly ahead = new Ahead<BatchAnswer>();
  /** The run shown by default while runs are still being read: which one is the newest changes meanwhile. */
  private kept = "";
  /** Steps asked for with the keys whose batch waits for an earlier answer; before (negative) or after. */
  private owed = 0;
  /** Whether the table should go to the chosen batch: not when the reader has just sorted it to see its top. */
  private reveal = true;
  private settling: ReturnType<typeof setTimeout> | undefined;

  constructor(
    public selection: Selection,
    private readonly render: () => void,
    private readonly write: (address: Record<string, string>) => void,
  ) {
    const changed = (): void => {
      this.keepRun();
      this.want();
      this.render();
    };
    this.runs = new Resource(changed);
    this.detail = new Resource(changed);
    this.overview = new Resource(changed);
    this.range = new Resource(changed);
    this.find = new Resource(changed);
    this.sample = new Resource(changed);
    this.confusion = new Resource(changed);
    this.dataMap = new Resource(changed);
    this.trend = new Resource(changed);
    this.calibration = new Resource(changed);
    this.thresholds = new Resource(changed);
    this.residuals = new Resource(changed);
    this.labelErrors = new Resource(changed);
    this.layers = new Resource(changed);
    this.layer = new Resource(changed);
    this.units = new Resource(changed);
    this.deadUnits = new Resource(changed);
    this.gradients = new Resource(changed);
    this.gradient = new Resource(changed);
    this.doctor = new Resource(changed);
    this.batches = new Pages((answer) => answer.rows, changed);
    this.batch = new Pages(
      (answer) => answer.samples,
      () => {
        changed();
        this.takeStep();
        this.lookAhead();
      },
    );
    this.samples = new Pages((answer) => answer.samples, changed);
    this.classes = new Pages((answer) => answer.classes, changed);
    this.versus = new Comparison(this, changed);
  }

  get chosen(): Chosen | null {
    return choose(this.selection, this.runs.value?.runs ?? [], this.kept);
  }

  get other(): Other | null {
    return chooseOther(this.selection, this.runs.value?.runs ?? [], this.chosen);
  }

  /** Whether event files are still being read, so that figures are of a part of them. */
  get indexing(): Indexing | null {
    return this.runs.value?.indexing ?? null;
  }

  get classNames(): readonly string[] | null {
    const { chosen } = this;
    const run = this.detail.value?.runs.find(({ name }) => name === chosen?.run.name);
    return run?.outputs.find(({ name }) => name === chosen?.output?.name)?.class_names ?? null;
  }

  /** The timeline of the range: of the whole phase when no range is chosen. */
  get timeline(): Block<TimelineHeader> | null {
    return (this.ranged ? this.range : this.overview).value;
  }

  /** Figures of the range. */
  get summary(): TimelineHeader | null {
    return this.timeline?.header ?? null;
  }

  /** The address of this view for others: it names the run also where the newest is shown by default. */
  get fullAddress(): Record<string, string> {
    const { chosen, selection } = this;
    const [run, phase, output] = [chosen?.run.name, chosen?.phase?.name, chosen?.output?.name];
    return toAddress({ ...selection, run: run ?? "", phase: phase ?? "", output: output ?? "" });
  }

  get batchSort(): Sort {
    const metrics = this.chosen?.run.metrics.map((name) => `metrics.${name}`) ?? [];
    const changes = "against_run" in this.versus.ofBatches ? BATCH_CHANGES : [];
    return usable(this.selection.batchSort, [...BATCH_SORTS, ...changes, ...metrics], INITIAL.batchSort);
  }

  get spikeSort(): Sort {
    return usable(this.selection.spikeSort, SPIKE_SORTS, INITIAL.spikeSort);
  }

  get classSort(): Sort {
    const changes = this.versus.comparable ? CLASS_CHANGES : [];
    return usable(this.selection.classSort, [...CLASS_SORTS, ...changes], INITIAL.classSort);
  }

  get pairSort(): Sort {
    return usable(this.selection.pairSort, PAIR_SORTS, INITIAL.pairSort);
  }

  get sampleSort(): Sort {
    const { tab, each } = this.selection;
    const whole = tab === "samples" && each === "last" && isMulticlass(this.chosen?.output ?? null);
    const columns = tab === "batches" ? SAMPLE_SORTS : whole ? ID_SORTS : RANGE_SORTS;
    return usable(this.selection.sampleSort, columns, INITIAL.sampleSort);
  }

  get ranged(): boolean {
    return this.selection.start !== null || this.selection.stop !== null;
  }

  /** The batch whose samples are shown: the chosen one, else the last of the range. */
  get step(): number | null {
    return this.selection.batch ?? this.summary?.last_step ?? null;
  }

  get layerName(): string | null {
    const names = this.layerNames;
    return names.find((name) => name === this.selection.layer) ?? names[0] ?? null;
  }

  /** All layers of which anything is known in the range: first those whose values are. */
  get layerNames(): string[] {
    return namesOfLayers(this);
  }

  get gradientNames(): string[] {
    return this.gradients.value?.header.layers.map(({ name }) => name) ?? [];
  }

  /** Row of the chosen batch in the table, once it is known; `null` while the table should stay where it is. */
  get batchIndex(): number | null {
    if (this.batchRow !== null || !this.reveal) return this.batchRow;
    const { batch } = this.selection;
    const page = this.find.value;
    const row = page?.rows.findIndex(({ step }) => step === batch) ?? -1;
    return page === null || row < 0 ? null : page.offset + row;
  }

  // ---- actions

  select(change: Partial<Selection>): void {
    this.selection = { ...this.selection, ...change };
    if ("batchSort" in change || "start" in change || "stop" in change) {
      this.batchRow = null;
      this.reveal = false;
    }
    this.write(toAddress(this.selection));
    this.want();
    this.render();
  }

  /** Take a range that was drawn on a picture; a `stop` of `null` is where the picture ends. */
  readonly brush = (start: number, stop: number | null): void =>
    this.select({ start, stop: stop ?? this.selection.stop });

  /** Choose a batch; `row` is its place in the table when it was chosen there. */
  pick(batch: number, row: number | null = null): void {
    this.owed = 0;
    this.show(batch, row);
  }

  /** Go to the batch before or after; what is asked for faster than it is answered is made up for. */
  stepBatch(by: -1 | 1): void {
    this.owed = Math.max(-MOST_OWED, Math.min(MOST_OWED, this.owed + by));
    this.takeStep();
  }

  /** Go to the spike before or after the shown batch. */
  stepSpike(by: -1 | 1): void {
    const { step } = this;
    const steps = (this.summary?.spikes ?? [])
      .map((spike) => (spike.step - (step ?? 0)) * by)
      .filter((distance) => distance > 0);
    if (step !== null && steps.length > 0) this.pick(step + Math.min(...steps) * by);
  }

  private show(batch: number, row: number | null): void {
    this.batchRow = row;
    this.reveal = true;
    this.select({ batch });
  }

  /** Only the answer for a batch tells which ones are before and after it. */
  private takeStep(): void {
    const batch = this.batch.head;
    if (this.owed === 0 || batch === null || batch.step !== this.step) return;
    const step = this.owed < 0 ? batch.previous : batch.next;
    this.owed = step === null ? 0 : this.owed - Math.sign(this.owed);
    if (step !== null) this.show(step, null);
  }

  /** Who has chosen a batch may step on from it: have its neighbours at hand. */
  private lookAhead(): void {
    const { head: batch } = this.batch;
    const { batch: chosen, tab } = this.selection;
    if (batch === null || batch.step !== chosen || tab !== "batches") return;
    for (const step of [batch.next, batch.previous]) {
      if (step === null) continue;
      const query = { ...this.batchQuery(step), offset: 0, limit: PAGE };
      this.ahead.prepare(api.address("batch", query), () =>
        api.fetchBatch(query, new AbortController().signal),
      );
    }
  }

  /** Whether the chosen batch may be among those that are still to be read: asking for it would be answered with an error. */
  get unread(): boolean {
    const { chosen, selection } = this;
    const last = chosen?.phase?.last_step ?? null;
    return chosen?.run.indexing != null && (selection.batch ?? -1) > (last ?? -1);
  }

  /** The question for a batch, with the filters and the order of its samples. */
  batchQuery(step: number): api.Query {
    const { outcome, target, predicted } = this.selection;
    const { chosen } = this;
    const [run, phase, output] = [chosen?.run.name, chosen?.phase?.name, chosen?.output?.name];
    return { run, phase, output, step, outcome, target, predicted, ...sorting(this.sampleSort) };
  }

  /** Take another run, phase or output: what was chosen inside the old one has no meaning there. */
  move(change: Partial<Pick<Selection, "run" | "phase" | "output">>): void {
    const range = "output" in change ? {} : { start: null, stop: null, batch: null };
    const classes =
      "phase" in change
        ? {}
        : { target: null, predicted: null, outcome: "all" as const, part: null, value: null };
    this.select({ ...range, ...classes, ...NO_FILTER, sample: null, ...change });
  }

  /** Compare with another run, "" for none. A run with itself is compared with its other batches. */
  compareWith(runB: string): void {
    const { selection, chosen } = this;
    const own = runB === chosen?.run.name;
    const column = runB === "" ? INITIAL.classSort.column : "recall_change";
    const sorted = selection.classSort.column === (runB === "" ? "recall_change" : INITIAL.classSort.column);
    this.select({
      runB,
      phaseB: "",
      outputB: "",
      ownB: own,
      ...(own ? restOf(selection) : { startB: null, stopB: null }),
      ...(sorted ? { classSort: { column, descending: false } } : {}),
    });
  }

  /** Make B what A is, and A what B is. What was chosen inside the old A has no meaning in the new one. */
  swap(): void {
    const { chosen, other, selection } = this;
    if (chosen === null || other === null) return;
    const { start, stop } = selection;
    const own = other.start !== start || other.stop !== stop;
    this.select({
      run: other.run.name,
      phase: other.phase?.name ?? "",
      output: other.output?.name ?? "",
      start: other.start,
      stop: other.stop,
      runB: chosen.run.name,
      phaseB: chosen.phase?.name ?? "",
      outputB: chosen.output?.name ?? "",
      ownB: own,
      startB: own ? start : null,
      stopB: own ? stop : null,
      batch: null,
      sample: null,
      target: null,
      predicted: null,
      part: null,
    });
  }

  set(change: Partial<Pick<Store, "help" | "checkup" | "search" | "runWords" | "notice" | "dark">>): void {
    Object.assign(this, change);
    if (change.checkup) this.doctor.load("", "", (signal) => api.fetchDoctor({}, signal), true);
    if ("search" in change) this.want(); // the table of classes shows those that are searched
    this.render();
  }

  get threshold(): number {
    return this.sliding ?? this.selection.threshold ?? 0.5;
  }

  /** Move the threshold; the address follows when it rests: browsers take only so many changes of it. */
  slide(threshold: number): void {
    this.sliding = threshold;
    clearTimeout(this.settling);
    this.settling = setTimeout(() => {
      this.sliding = null;
      this.select({ threshold });
    }, SETTLED);
    this.render();
  }

  isFolded(panel: string): boolean {
    return this.selection.folded.split(".").includes(panel);
  }

  fold(panel: string): void {
    const others = this.selection.folded.split(".").filter((name) => name !== "" && name !== panel);
    this.select({ folded: (this.isFolded(panel) ? others : [...others, panel]).join(".") });
  }

  setLive(live: boolean): void {
    this.live = live;
    if (live) this.poll();
    this.render();
  }

  setVisible(visible: boolean): void {
    const back = visible && !this.visible;
    this.visible = visible;
    if (!back) return;
    this.write(toAddress(this.selection)); // TensorBoard drops our keys when another tab is opened
    if (this.dirty) this.refresh();
    else this.poll();
    this.render();
  }

  /** Ask for everything shown once more; what is not seen waits until it is. */
  refresh(): void {
    this.dirty = !this.visible;
    if (this.dirty) return;
    this.runs.load("", "runs", (signal) => api.fetchRuns({}, signal), true);
    this.want(true);
  }

  private keepRun(): void {
    const { indexing, chosen } = this;
    this.kept = indexing !== null && chosen !== null && chosen.run.updated !== null ? chosen.run.name : "";
  }

  /** Whether to look at the runs again soon: to see how far reading has come is no matter of following a training. */
  get impatient(): boolean {
    return this.indexing !== null;
  }

  /** Look whether the runs have grown, and refresh if so. */
  async poll(): Promise<void> {
    if (!this.visible || this.runs.loading) return;
    if (!this.live && !this.impatient) {
      this.render(); // the time since the last batch goes on
      return;
    }
    const before = fingerprint(this.runs.value);
    const partial = this.chosen?.run.indexing != null;
    const failed = this.runs.error !== null;
    await this.runs.load("", "runs", (signal) => api.fetchRuns({}, signal), true);
    // What is shown must not stay that of a part, even if nobody follows the training.
    const whole = partial && this.chosen?.run.indexing == null;
    if (failed || whole || (this.live && before !== fingerprint(this.runs.value))) this.want(true);
    this.render();
  }

  // ---- answers

  /** Load what the selection needs; `again` renews it. Questions already asked are not repeated. */
  want(again = false): void {
    if (this.runs.value === null) {
      this.runs.load("", "runs", (signal) => api.fetchRuns({}, signal));
      return;
    }
    const { chosen } = this;
    if (chosen === null) return;
    const run = { run: chosen.run.name };
    this.detail.load(run.run, run.run, (signal) => api.fetchRuns(run, signal), again);
    if (chosen.phase === null || chosen.phase.batches === 0) return;
    const phase = { ...run, phase: chosen.phase.name };
    const whole = { ...phase, output: chosen.output?.name ?? null };
    const { start, stop, tab } = this.selection;
    const query = { ...whole, start, stop };
    this.load(this.overview, api.fetchTimeline, { ...whole, points: POINTS }, again);
    if (this.ranged) this.load(this.range, api.fetchTimeline, { ...query, points: POINTS }, again);
    if (tab === "batches") this.wantBatches(query, again);
    if (tab === "classes") this.wantClasses(query, chosen.output, again);
    if (tab === "samples") this.wantSamplesTab(query, chosen.output, again);
    if (tab === "layers") this.wantLayers(this, { ...phase, start, stop }, again);
    this.versus.want(again);
    const { sample } = this.selection;
    if (sample === null) this.sample.clear();
    else this.load(this.sample, api.fetchSample, { ...whole, ...sample });
  }

  private wantBatches(query: api.Query, again: boolean): void {
    const { batch } = this.selection;
    const sorted = { ...query, ...this.versus.ofBatches, ...sorting(this.batchSort) };
    this.open(this.batches, api.fetchBatches, sorted, again);
    if (this.unread) return;
    if (batch !== null && this.batchRow === null && this.reveal) {
      this.batchRow = this.batches.find(({ step }) => step === batch);
      if (this.batchRow === null)
        this.load(this.find, api.fetchBatches, { ...sorted, find: batch, limit: PAGE });
    }
    if (this.step === null) return;
    if (again) this.ahead.clear();
    const fetchBatch = (asked: api.Query, signal: AbortSignal): Promise<BatchAnswer> =>
      this.ahead.take(api.address("batch", asked), () => api.fetchBatch(asked, signal));
    this.open(this.batch, fetchBatch, this.batchQuery(this.step), again);
  }

  private wantClasses(query: api.Query, output: Output | null, again: boolean): void {
    const { target, predicted, order } = this.selection;
    if (output === null) return;
    this.open(this.classes, api.fetchClasses, this.classQuery(query), again);
    this.wantTask(this, query, output, again);
    if (output.task === "regression" && !this.isFolded("worst"))
      this.open(this.samples, api.fetchSamples, { ...query, sort: "error", descending: 1 }, again);
    if (!isMulticlass(output)) return;
    const asked = order === "clustered" ? order : null;
    this.load(
      this.confusion,
      api.fetchConfusion,
      { ...query, limit: 1000, order: asked, ...this.versus.ofClasses },
      again,
    );
    if (target !== null || predicted !== null) this.wantSamples(query, again);
  }

  /** What besides the table the tab shows of each task, of run A or B; what is folded up asks for nothing. */
  wantTask(into: Pictured, query: api.Query, output: Output, again: boolean): void {
    const { task, classes } = output;
    const open = (panel: string): boolean => !this.isFolded(panel);
    if (task === "regression") {
      const value = this.selection.value ?? 0;
      if (["scatter", "time", "spread"].some(open))
        this.load(into.residuals, api.fetchResiduals, { ...query, points: DRAWN, value }, again);
      return;
    }
    // How many windows are of use is known with the figures of the range.
    if (into.timeline !== null) {
      const points = trendWindows(into.timeline.header.samples / Math.max(1, classes));
      this.load(into.trend, api.fetchTrend, { ...query, points, limit: 1000 }, again);
    }
    if (task === "multilabel") {
      if (hasPairs(output) && open("together"))
        this.load(into.labelErrors, api.fetchLabelErrors, query, again);
      return;
    }
    if (open("calibration")) this.load(into.calibration, api.fetchCalibration, query, again);
    if (task === "binary" && this.chosen?.output?.task === task && open("thresholds"))
      this.load(into.thresholds, api.fetchThresholds, query, again);
  }

  /** What the table of classes shows of a range: those searched, in its order. */
  classQuery(range: api.Query): api.Query {
    const search = isMulticlass(this.chosen?.output ?? null) ? this.search.trim() : "";
    return { ...range, search, ...this.versus.ofClasses, ...sorting(this.classSort) };
  }

  private wantSamples(query: api.Query, again: boolean): void {
    const { target, predicted, outcome } = this.selection;
    this.open(
      this.samples,
      api.fetchSamples,
      { ...query, outcome, target, predicted, ...sorting(this.sampleSort) },
      again,
    );
  }

  private wantSamplesTab(query: api.Query, output: Output | null, again: boolean): void {
    this.wantSamples({ ...query, ...filterQuery(this.selection) }, again);
    if (this.samples.head?.identified && this.selection.map && isMulticlass(output))
      this.load(this.dataMap, api.fetchDataMap, { ...query, limit: MAPPED }, again);
  }

  /** The layers of run A or B, and what is shown of the chosen one, on an axis that also holds it of the `other` run. */
  wantLayers(into: Pictured, query: api.Query, again: boolean, other?: api.Query): void {
    this.load(into.layers, api.fetchLayers, query, again);
    this.load(into.gradients, api.fetchGradients, { ...query, points: WINDOWS }, again);
    const { selection, versus } = this;
    const nameIn = (pictured: Pictured): string | null => (pictured === this ? this : versus).layerName;
    const layer = nameIn(into);
    if (layer === null) {
      into.layer.clear();
      return;
    }
    const windows = { ...query, layer, points: WINDOWS, axis: selection.allValues ? "all" : "usual" };
    const rowOf = (pictured: Pictured): LayerRow | undefined =>
      pictured.layers.value?.layers.find(({ name }) => name === nameIn(pictured));
    const slopes = (pictured: Pictured): boolean =>
      pictured.gradients.value?.header.layers.some(({ name }) => name === nameIn(pictured)) === true;
    // Each is asked for against the other, if both are there.
    const shared = (there: (pictured: Pictured) => boolean): api.Query =>
      there(this) && there(versus) ? (other ?? versus.ofLayer) : {};
    const row = rowOf(into);
    if (row === undefined) into.layer.clear();
    else
      this.load(
        into.layer,
        api.fetchLayer,
        { ...windows, ...shared((one) => rowOf(one) !== undefined) },
        again,
      );
    if (row != null && row.units !== null) {
      const units = { ...query, layer, points: WINDOWS, limit: UNITS, figure: selection.unitFigure };
      this.load(into.units, api.fetchUnits, units, again);
      this.load(into.deadUnits, api.fetchDeadUnits, { ...query, layer, last: selection.last }, again);
    }
    if (slopes(into)) this.load(into.gradient, api.fetchGradient, { ...windows, ...shared(slopes) }, again);
  }

  load<Answer>(
    resource: Resource<Answer>,
    fetchAnswer: (query: api.Query, signal: AbortSignal) => Promise<Answer>,
    query: api.Query,
    again = false,
  ): void {
    resource.load(scopeOf(query), api.address("", query), (signal) => fetchAnswer(query, signal), again);
  }

  open<Answer extends { total: number; offset: number }, Row>(
    pages: Pages<Answer, Row>,
    fetchAnswer: (query: api.Query, signal: AbortSignal) => Promise<Answer>,
    query: api.Query,
    again: boolean,
  ): void {
    const fetchPage = (offset: number, limit: number, signal: AbortSignal): Promise<Answer> =>
      fetchAnswer({ ...query, offset, limit }, signal);
    pages.open(scopeOf(query), api.address("", query), fetchPage, again);
  }
}

/** Windows of the trend: so few that a rate in one is more than chance, for classes that are about as frequent. */
export const trendWindows = (samplesOfClass: number): number =>
  samplesOfClass >= 5000 ? 100 : samplesOfClass >= 1500 ? 50 : 20;

/** All layers of which anything is known in the range of a run: first those whose values are. */
export const namesOfLayers = ({ layers, gradients }: Pick<Pictured, "layers" | "gradients">): string[] => [
  ...new Set(
    [...(layers.value?.layers ?? []), ...(gradients.value?.header.layers ?? [])].map(({ name }) => name),
  ),
];

const sorting = ({ column, descending }: Sort): api.Query => ({
  sort: column,
  descending: descending ? 1 : 0,
});

/** Answers of another run, phase, output or layer are never shown while the right ones are under way. */
const scopeOf = (query: api.Query): string => {
  const { run, phase, output, layer, against_run, against_phase, against_output, against_layer } = query;
  return JSON.stringify([
    run,
    phase,
    output,
    layer,
    against_run,
    against_phase,
    against_output,
    against_layer,
  ]);
};
