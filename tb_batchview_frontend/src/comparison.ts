// The answers that run B needs beside those of A: nothing is asked for while no B is chosen.

import * as api from "./api.js";
import { isMulticlass, usable } from "./choice.js";
import { againstQuery, alike, JOIN_SORTS, type Other, pairable } from "./compare.js";
import { Pages, Resource } from "./resource.js";
import { INITIAL, type Sort } from "./selection.js";
import type { Store } from "./state.js";
import type {
  Block,
  JoinedAnswer,
  JoinedSample,
  LayerHeader,
  LayersAnswer,
  RunsAnswer,
  TimelineHeader,
} from "./types.js";

export class Comparison {
  readonly detail: Resource<RunsAnswer>;
  readonly overview: Resource<Block<TimelineHeader>>;
  readonly range: Resource<Block<TimelineHeader>>;
  readonly layers: Resource<LayersAnswer>;
  readonly layer: Resource<Block<LayerHeader>>;
  readonly joined: Pages<JoinedAnswer, JoinedSample>;

  constructor(
    private readonly store: Store,
    changed: () => void,
  ) {
    this.detail = new Resource(changed);
    this.overview = new Resource(changed);
    this.range = new Resource(changed);
    this.layers = new Resource(changed);
    this.layer = new Resource(changed);
    this.joined = new Pages((answer) => answer.samples, changed);
  }

  get other(): Other | null {
    return this.store.other;
  }

  get ranged(): boolean {
    return this.other !== null && (this.other.start !== null || this.other.stop !== null);
  }

  /** Timeline and figures of B's range. */
  get timeline(): Block<TimelineHeader> | null {
    return (this.ranged ? this.range : this.overview).value;
  }

  get error(): string | null {
    return (this.ranged ? this.range : this.overview).error;
  }

  get classNames(): readonly string[] | null {
    const run = this.detail.value?.runs.find(({ name }) => name === this.other?.run.name);
    return run?.outputs.find(({ name }) => name === this.other?.output?.name)?.class_names ?? null;
  }

  /** Whether errors and classes of both mean the same. */
  get comparable(): boolean {
    return alike(this.store.chosen?.output ?? null, this.other?.output ?? null) && this.filled;
  }

  private get filled(): boolean {
    return (this.other?.phase?.batches ?? 0) > 0;
  }

  /** What to add to a question about batches: each is put beside that of the same step. */
  get ofBatches(): api.Query {
    const { other, store } = this;
    const { chosen } = store;
    if (other === null || chosen === null || !this.filled || !pairable(chosen, other)) return {};
    const { against_start, against_stop, ...whole } = againstQuery(other);
    return whole;
  }

  /** What to add to a question about classes. */
  get ofClasses(): api.Query {
    return this.other !== null && this.comparable ? againstQuery(this.other) : {};
  }

  /** Whether B has summaries of the layer shown. */
  get hasLayer(): boolean {
    const name = this.store.layerName;
    return this.layers.value?.layers.some((row) => row.name === name) === true;
  }

  /** What to add to a question about the layer, so that both have one axis. */
  get ofLayer(): api.Query {
    if (this.other === null || !this.hasLayer) return {};
    const { against_output, ...layer } = againstQuery(this.other);
    return layer;
  }

  /** Whether the samples of both can be put beside each other, if they have ids. */
  get joins(): boolean {
    return this.comparable && isMulticlass(this.store.chosen?.output ?? null);
  }

  get joinSort(): Sort {
    return usable(this.store.selection.joinSort, JOIN_SORTS, INITIAL.joinSort);
  }

  /** The question about the samples of both. */
  get ofSamples(): api.Query {
    const { chosen, selection } = this.store;
    const { start, stop, joint, target, predicted } = selection;
    const { column, descending } = this.joinSort;
    return {
      run: chosen?.run.name,
      phase: chosen?.phase?.name,
      output: chosen?.output?.name,
      start,
      stop,
      joint,
      target,
      predicted,
      ...this.ofClasses,
      sort: column,
      descending: descending ? 1 : 0,
    };
  }

  want(points: number, windows: number, again: boolean): void {
    const { other, store } = this;
    if (other === null || !this.filled || other.phase === null) {
      for (const resource of [this.detail, this.overview, this.range, this.layers, this.layer])
        resource.clear();
      return;
    }
    const run = { run: other.run.name };
    this.detail.load(run.run, run.run, (signal) => api.fetchRuns(run, signal), again);
    const phase = { ...run, phase: other.phase.name };
    const whole = { ...phase, output: other.output?.name ?? null };
    const range = { start: other.start, stop: other.stop };
    store.load(this.overview, api.fetchTimeline, { ...whole, points }, again);
    if (this.ranged) store.load(this.range, api.fetchTimeline, { ...whole, ...range, points }, again);
    else this.range.clear();
    if (store.selection.tab === "samples" && this.joins)
      store.open(this.joined, api.fetchJoined, this.ofSamples, again);
    if (store.selection.tab !== "layers") return;
    store.load(this.layers, api.fetchLayers, { ...phase, ...range }, again);
    if (!this.hasLayer || store.layerName === null) {
      this.layer.clear();
      return;
    }
    const { chosen, selection } = store;
    const query = {
      ...phase,
      ...range,
      layer: store.layerName,
      points: windows,
      axis: selection.allValues ? "all" : "usual",
      against_run: chosen?.run.name,
      against_phase: chosen?.phase?.name,
      against_start: selection.start,
      against_stop: selection.stop,
    };
    store.load(this.layer, api.fetchLayer, query, again);
  }
}
