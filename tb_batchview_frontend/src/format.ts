// Numbers and names as people read them. Every number on the page goes through here; the full precision stands in `exact`.

const NOTHING = "–";
const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const four = new Intl.NumberFormat("en-US", { minimumSignificantDigits: 4, maximumSignificantDigits: 4 });

/** Write numbers that are missing or not finite; `null` when the value is an ordinary number. */
function special(value: number | null | undefined): string | null {
  if (value === null || value === undefined) return NOTHING;
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  return null;
}

const minus = (text: string): string => text.replace(/^-/, "−");

/** A count or a step: `19,200`. */
export function count(value: number | null | undefined): string {
  return special(value) ?? minus(grouped.format(value as number));
}

/** A loss, a mean: four significant digits, an exponent where they would not do. */
export function figure(value: number | null | undefined): string {
  const text = special(value);
  if (text !== null) return text;
  const number = value as number;
  const size = Math.abs(number);
  if (size === 0) return "0";
  if (size >= 1e6 || size < 1e-4) return minus(number.toExponential(2));
  return minus(size >= 1000 ? grouped.format(number) : four.format(number));
}

/** A number on an axis: short, without the zeros that only line up columns. */
export function tick(value: number | null): string {
  const text = special(value);
  if (text !== null) return text;
  const number = Number((value as number).toPrecision(4));
  const size = Math.abs(number);
  if (size !== 0 && (size >= 1e6 || size < 1e-4)) return minus(number.toExponential());
  return minus(number.toLocaleString("en-US", { maximumFractionDigits: 6 }));
}

/** The same for a share: `25 %`. */
export const percentTick = (value: number | null): string =>
  special(value) ?? `${tick(Number(((value as number) * 100).toPrecision(6)))}\u00a0%`;

/** A share between 0 and 1: `8.1 %`, with a space that does not break. */
export function percent(value: number | null | undefined): string {
  const text = special(value);
  if (text !== null) return text;
  const share = (value as number) * 100;
  return `${minus(share.toFixed(share !== 0 && Math.abs(share) < 0.095 ? 2 : 1))}\u00a0%`;
}

/** A number with its sign, `+0.012` or `−0.012`; written by one of the others. */
export function signed(value: number, text: (value: number) => string): string {
  return value > 0 ? `+${text(value)}` : text(value);
}

/** A difference of two shares in percentage points: `3.1 pp`. */
export const points = (change: number): string => percent(change).replace("%", "pp");

/** A share in a cell of a matrix: percent without the sign, `18.4`, and `100` without a decimal. */
export function shareFigure(value: number): string {
  return value >= 0.9995 ? "100" : (value * 100).toFixed(1);
}

/** How many times as much: `9.4×`. */
export function times(ratio: number): string {
  return `${ratio.toFixed(ratio < 1 ? 2 : 1)}×`;
}

/** A score or a recall between 0 and 1: three decimals, so that columns line up. */
export function score(value: number | null | undefined): string {
  const text = special(value);
  if (text !== null) return text;
  const number = value as number;
  if (number !== 0 && Math.abs(number) < 0.0005) return minus(number.toExponential(0));
  return minus(number.toFixed(3));
}

/** All digits of a number, for titles: of one in single precision no more than tell it from its neighbours. */
export function exact(value: number | null | undefined): string {
  const word = special(value);
  if (word !== null || value == null || Math.fround(value) !== value) return word ?? String(value);
  let digits = 1;
  while (Math.fround(Number(value.toPrecision(digits))) !== value) digits += 1;
  return String(Number(value.toPrecision(digits)));
}

/** One of something, or many: `1 batch`, `2 batches`. */
export function many(value: number, one: string, more = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : more}`;
}

/** Time since a wall time in seconds: `2 s ago`. */
export function ago(then: number | null, now: number): string {
  if (then === null || !Number.isFinite(then)) return "never";
  const seconds = Math.max(0, Math.round(now - then));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${count(Math.floor(seconds / 86400))} d ago`;
}

/** The time of day a batch was recorded, in the reader's zone. */
export function clock(wallTime: number): string {
  return Number.isFinite(wallTime) ? new Date(wallTime * 1000).toLocaleString("en-GB") : NOTHING;
}

const UNITS = ["B", "kB", "MB", "GB", "TB"];

export function bytes(value: number): string {
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? count(size) : size.toFixed(1)} ${UNITS[unit]}`;
}

/** A part of a size, both in the unit of the whole: `3.1 of 20.0 GB`. */
export function bytesOf(part: number, whole: number): string {
  const [size, unit] = bytes(whole).split(" ");
  const scale = 1000 ** UNITS.indexOf(unit ?? "");
  return `${unit === "B" ? count(part) : (part / scale).toFixed(1)} of ${size} ${unit}`;
}

/** How much is done, in whole percent: 100 only when it is all. */
export function progress(part: number, whole: number): number {
  return whole > 0 ? Math.min(part < whole ? 99 : 100, Math.floor((100 * part) / whole)) : 0;
}

const DIRECTION = /[\u202a-\u202e\u2066-\u2069]/;

/** The name the user gave a class, or its number where there is none (or an empty one). */
export function className(
  names: readonly string[] | null | undefined,
  index: number | null | undefined,
): string {
  if (index === null || index === undefined) return NOTHING;
  return isolated(names?.[index] || String(index));
}

/** A name that turns the direction of writing must turn its own letters only. */
const isolated = (name: string): string => (DIRECTION.test(name) ? `\u2068${name}\u2069` : name);

/** The id the user gave a sample; an empty one is shown as quotes. */
export const idName = (id: string | number): string => (id === "" ? "“”" : isolated(String(id)));

/**
 * A name where there is little room: without line breaks and control characters, cut after so many characters.
 * The full name is what CSV files and titles hold.
 */
export function shortName(name: string, most = 80): string {
  const isolated = name.startsWith("\u2068");
  const flat = name.slice(0, 4 * most).replace(/[\s\p{Cc}]+/gu, " ");
  const letters = Array.from(flat);
  if (letters.length <= most && name.length <= 4 * most) return flat;
  return `${letters.slice(0, most - 1).join("")}…${isolated ? "\u2069" : ""}`;
}

/** The end of a long path: layers of one block differ there. */
export const tailOf = (name: string, most: number): string => {
  const letters = Array.from(shortName(name, 1000));
  return letters.length <= most ? letters.join("") : `…${letters.slice(1 - most).join("")}`;
};

/** A share with all digits that mean something: `18.4430512 %`. */
export function exactPercent(share: number): string {
  return `${Number((Number(exact(share)) * 100).toPrecision(9))}\u00a0%`;
}
