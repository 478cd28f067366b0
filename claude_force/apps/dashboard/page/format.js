/* How figures look. They come from the server as they are; nothing is added up or rounded anywhere else. */

const LOCALE = 'en';
const whole = new Intl.NumberFormat(LOCALE);
const dollars = new Intl.NumberFormat(LOCALE, {
  style: 'currency',
  currency: 'USD',
  minimumFractionDigits: 4,
  maximumFractionDigits: 4,
});
const percent = new Intl.NumberFormat(LOCALE, { style: 'percent', minimumFractionDigits: 1, maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(LOCALE, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const day = new Intl.DateTimeFormat(LOCALE, { day: 'numeric', month: 'short' });

/** What stands where there is no figure. */
export const NOTHING = '–';

export const count = (number) => (number == null ? NOTHING : whole.format(number));

/** Dollars; null is a price that nobody knows, as everywhere in claude-force. */
export const money = (usd) => (usd == null ? 'unpriced' : dollars.format(usd));

export const share = (ratio) => (ratio == null ? NOTHING : percent.format(ratio));

export function duration(ms) {
  if (ms == null) return NOTHING;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(2)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${String(Math.floor((ms % 60_000) / 1_000)).padStart(2, '0')} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** A tick of an axis, which has little room. */
export const shortly = (ms) => (ms < 1_000 ? `${+ms.toPrecision(2)} ms` : `${+(ms / 1_000).toPrecision(3)} s`);

export function size(megabytes) {
  return megabytes == null ? NOTHING : `${megabytes.toFixed(1)} MB`;
}

/** A figure of an alert or an anomaly, by what is measured. */
export function measure(name, value) {
  if (value == null) return NOTHING;
  if (name.endsWith('_ms')) return duration(value);
  if (name.endsWith('_usd')) return money(value);
  if (name.endsWith('_rate') || name.endsWith('_share')) return share(value);
  return name.endsWith('_ratio') ? `${+value.toPrecision(3)} times the usual` : count(value);
}

/** How long ago, as one says it. */
export function ago(ms) {
  if (ms < 5_000) return 'now';
  for (const [unit, name] of [
    [86_400_000, 'd'],
    [3_600_000, 'h'],
    [60_000, 'min'],
    [1_000, 's'],
  ]) {
    if (ms >= unit) return `${Math.floor(ms / unit)} ${name} ago`;
  }
  return NOTHING;
}

export const time = (moment) => clock.format(moment);
export const date = (moment) => day.format(moment);

/** "1 step", "2 steps". */
export const many = (number, noun) => `${count(number)} ${noun}${number === 1 ? '' : 's'}`;

/** A name that fits; the whole one is always somewhere near. */
export const cut = (name, length) => (name.length > length ? `${[...name].slice(0, length - 1).join('')}…` : name);

/** A word as a shell takes it. */
export const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);
