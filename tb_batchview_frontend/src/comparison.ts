// The answers that run B needs beside those of A: nothing is asked for while no B is chosen.

import * as api from "./api.js";
import { isMulticlass, usable } from "./choice.js";
import {
  againstQuery,
  alike,
  JOIN_SORTS,
  matchClasses,
  matchLayer,
  type Other,
  pairable,
} from "./compare.js";
import { Pages, Resource } from "./resource.js";
import { INITIAL, type Sort } from "./selection.js";
import { namesOfLayers, type Pictured, POINTS, type Store } from "./state.js";
import type {
  Block,
  JoinedAnswer,
  JoinedSample,
  LayerHeader,
  LayerRow,
  LayersAnswer,
  RunsAnswer,
  TimelineHeader,
} from "./types.js";

/** The name that a layer has in the other run, where it is another. */
const calledSo = (there: string | null, here: string | null): api.Query =>
  there === null || there === here ? {} : { against_layer: there };

export class Comparison {
  readonly detail: Resource<RunsAnswer> = new Resource(this.changed);
  readonly overview: Resource<Block<TimelineHeader>> = new Resource(this.changed);
  readonly range: Resource<Block<TimelineHeader>> = new Resource(this.changed);
  readonly layers: Resource<LayersAnswer> = new Resource(this.changed);
  readonly layer: Resource<Block<LayerHeader>> = new Resource(this.changed);
  readonly joined = new Pages<JoinedAnswer, JoinedSample>((answer) => answer.samples, this.changed);
  readonly trend: Pictured["trend"] = new Resource(this.changed);
  readonly calibration: Pictured["calibration"] = new Resource(this.changed);
  readonly thresholds: Pictured["thresholds"] = new Resource(this.changed);
  readonly residuals: Pictured["residuals"] = new Resource(this.changed);
  readonly labelErrors: Pictured["labelErrors"] = new Resource(this.changed);
  readonly units: Pictured["units"] = new Resource(this.changed);
  readonly deadUnits: Pictured["deadUnits"] = new Resource(this.changed);
  readonly gradients: Pictured["gradients"] = new Resource(this.changed);
  readonly gradient: Pictured["gradient"] = new Resource(this.changed);

  constructor(
    private readonly store: Store,
    private readonly changed: () => void,
  ) {}

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

  /** B's number of each class of A, -1 where it has none. */
  get matched(): ArrayLike<number> {
    const { chosen, classNames } = this.store;
    return matchClasses(chosen?.output?.classes, classNames, this.other?.output?.classes, this.classNames);
  }

  /** B's answer of a kind, where errors and classes of both mean the same. */
  beside<Name extends keyof Pictured>(name: Name): Pictured[Name] | null {
    return this.comparable ? (this as Pictured)[name] : null;
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

  get layerNames(): string[] {
    return namesOfLayers(this);
  }

  /** What the layer shown is called in B, `null` where B has it not. */
  get layerName(): string | null {
    const { layerName, layerNames } = this.store;
    return layerName === null ? null : matchLayer(layerName, layerNames, this.layerNames);
  }

  /** The summaries that B has of the layer shown. */
  get layerRow(): LayerRow | undefined {
    const name = this.layerName;
    return this.layers.value?.layers.find((row) => row.name === name);
  }

  /** Whether B has of the layer shown what A has: its values, or where A has none of them its gradient. */
  get hasLayer(): boolean {
    const name = this.store.layerName;
    const valued = this.store.layers.value?.layers.some((row) => row.name === name);
    return valued ? this.layerRow !== undefined : this.hasGradient;
  }

  get hasGradient(): boolean {
    const name = this.layerName;
    return this.gradients.value?.header.layers.some((layer) => layer.name === name) === true;
  }

  /** What to add to a question about a layer or its gradient that both have, so that both have one axis. */
  get ofLayer(): api.Query {
    if (this.other === null) return {};
    const { against_output, ...layer } = againstQuery(this.other);
    return { ...layer, ...calledSo(this.layerName, this.store.layerName) };
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

  want(again: boolean): void {
    const { other, store } = this;
    if (other === null || !this.filled || other.phase === null) {
      for (const one of Object.values(this)) if (one instanceof Resource) one.clear();
      return;
    }
    const run = { run: other.run.name };
    this.detail.load(run.run, run.run, (signal) => api.fetchRuns(run, signal), again);
    const phase = { ...run, phase: other.phase.name };
    const whole = { ...phase, output: other.output?.name ?? null };
    const range = { start: other.start, stop: other.stop };
    store.load(this.overview, api.fetchTimeline, { ...whole, points: POINTS }, again);
    if (this.ranged) store.load(this.range, api.fetchTimeline, { ...whole, ...range, points: POINTS }, again);
    else this.range.clear();
    const { chosen, selection } = store;
    if (selection.tab === "samples" && this.joins)
      store.open(this.joined, api.fetchJoined, this.ofSamples, again);
    if (selection.tab === "classes" && this.comparable && other.output !== null)
      store.wantTask(this, { ...whole, ...range }, other.output, again);
    if (selection.tab !== "layers") return;
    const { start, stop } = selection;
    const a = { against_run: chosen?.run.name, against_phase: chosen?.phase?.name };
    store.wantLayers(this, { ...phase, ...range }, again, {
      ...a,
      against_start: start,
      against_stop: stop,
      ...calledSo(store.layerName, this.layerName),
    });
  }
}
