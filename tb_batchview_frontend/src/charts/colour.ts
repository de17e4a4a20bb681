// Colours of the pictures. The ramps start at the page's own ground, so that "nothing" looks like nothing.

export type Ramp = (share: number) => string;

/** Red, green and blue of an `rgb(…)`, `#rrggbb` or `#rgb` colour. */
export function channels(colour: string): [number, number, number] {
  const hex = /^#(..?)(..?)(..?)$/.exec(colour);
  const parts = hex
    ? hex.slice(1).map((part) => Number.parseInt(part.length === 1 ? part + part : part, 16))
    : (colour.match(/\d+(\.\d+)?/g) ?? []).map(Number);
  return [parts[0] ?? 0, parts[1] ?? 0, parts[2] ?? 0];
}

/** Through colours, from the first (0) to the last (1): a uniform cubic B-spline of each channel, a line between two. */
export function blend(...colours: string[]): Ramp {
  const points = colours.map(channels);
  const pieces = points.length - 1;
  return (share) => {
    const place = Math.min(1, Math.max(0, share)) * pieces;
    const at = Math.min(pieces - 1, Math.floor(place));
    const t = place - at;
    const mixed = [0, 1, 2].map((channel) => {
      const value = (index: number): number => points[index]?.[channel] ?? 0;
      const [from, to] = [value(at), value(at + 1)];
      // Beyond the ends the spline goes on as it came.
      const before = at > 0 ? value(at - 1) : 2 * from - to;
      const after = at < pieces - 1 ? value(at + 2) : 2 * to - from;
      const sum =
        (1 - t) ** 3 * before +
        (4 - 6 * t ** 2 + 3 * t ** 3) * from +
        (1 + 3 * t + 3 * t ** 2 - 3 * t ** 3) * to +
        t ** 3 * after;
      return Math.min(255, Math.max(0, Math.round(sum / 6)));
    });
    return `rgb(${mixed.join(", ")})`;
  };
}

// ColorBrewer's "Oranges" and "Blues" (Cynthia Brewer, Mark Harrower and The Pennsylvania State University).
const ORANGES = blend(
  "#fff5eb",
  "#fee6ce",
  "#fdd0a2",
  "#fdae6b",
  "#fd8d3c",
  "#f16913",
  "#d94801",
  "#a63603",
  "#7f2704",
);
const BLUES = blend(
  "#f7fbff",
  "#deebf7",
  "#c6dbef",
  "#9ecae1",
  "#6baed6",
  "#4292c6",
  "#2171b5",
  "#08519c",
  "#08306b",
);

const DARK = blend("#383838", "#6b3d12", "#b85c00", "#ff9800", "#ffe0b2");
const LIGHT: Ramp = (share) => (share <= 0 ? "#fcfaf8" : ORANGES(0.06 + 0.8 * share));

/** From the ground (0) to the strongest orange (1). */
export const ramp = (dark: boolean): Ramp => (dark ? DARK : LIGHT);

const BLUE_DARK = blend("#383838", "#1c3f66", "#1f6fb8", "#64b5f6", "#d4eafc");
const BLUE_LIGHT: Ramp = (share) => (share <= 0 ? "#fcfaf8" : BLUES(0.06 + 0.8 * share));

/** The same in blue, for run B: with the orange one it makes a scale of differences. */
export const blueRamp = (dark: boolean): Ramp => (dark ? BLUE_DARK : BLUE_LIGHT);

/** From the strongest blue (0) over the ground (½) to the strongest orange (1): figures below and above 0. */
export const signedRamp = (dark: boolean): Ramp => {
  const [below, above] = [blueRamp(dark), ramp(dark)];
  return (share) => (share < 0.5 ? below(1 - 2 * share) : above(2 * share - 1));
};

const DEPTH_DARK = blend("#4dd0e1", "#b39ddb", "#f48fb1", "#ffb74d");
const DEPTH_LIGHT = blend("#00796b", "#4a4fc4", "#ad1480", "#b34700");

/** Lines of layers, from the first (0) to the last (1): all to be told from the ground. */
export const depthRamp = (dark: boolean): Ramp => (dark ? DEPTH_DARK : DEPTH_LIGHT);

/** The same for what is right: the diagonal of a confusion matrix. */
export const rightRamp = (dark: boolean): Ramp =>
  dark ? blend("#383838", "#3f7d43") : blend("#f3f8f3", "#a3cfa6");

/** 256 steps of a ramp as packed pixels of an ImageData. */
export function pixels(colours: Ramp): Uint32Array {
  return Uint32Array.from({ length: 256 }, (_, index) => {
    const [red, green, blue] = channels(colours(index / 255)).map(Math.round) as [number, number, number];
    return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  });
}

/** Black or white, whichever is the better to read on `colour` (relative luminance, WCAG 2). */
export function inkOn(colour: string): string {
  const [red, green, blue] = channels(colour).map((value) => {
    const part = value / 255;
    return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000000" : "#ffffff";
}

/** TensorBoard's run colours, for the few places where classes stand side by side. All carry white text. */
export const CLASS_COLOURS = [
  "#425066",
  "#0b7d8e",
  "#c2186f",
  "#9a6a00",
  "#7b2cc9",
  "#4f7a1d",
  "#b8560b",
  "#4a5bb5",
  "#00796b",
  "#7d5a4f",
] as const;

export const classColour = (index: number): string =>
  CLASS_COLOURS[index % CLASS_COLOURS.length] ?? "#425066";

/** The value of one of the page's colour variables; any other colour is itself. */
export function themeColour(element: Element, name: string): string {
  if (!name.startsWith("--")) return name;
  return getComputedStyle(element).getPropertyValue(name).trim() || "#888888";
}
