import { hexOf, keywordOf, Tag, tagOf } from '#dicom/tags.ts';
import { trimUid } from '#dicom/uids.ts';
import { GantryError } from '#platform/errors.ts';
import type { MatchKey } from '#proto/index/v1/index.ts';
import { asksNothing, canonical, fuzzyName, hasWildcard, nameGroups, personName, wildcard } from './match-text.ts';
import {
  DAY,
  dateInterval,
  dateTimeInterval,
  type Interval,
  parseKey,
  parseOffset,
  SECOND,
  timeInterval,
} from './match-time.ts';

/**
 * Attribute Matching (PS3.4 C.2.2.2), for C-FIND and QIDO-RS alike: keys in, tests over DICOM JSON attributes out. Pure.
 */
export interface Attribute {
  vr?: string;
  Value?: readonly unknown[];
}
export type Model = { readonly [hex: string]: Attribute };

/**
 * What a key is tried against. `attributes` gives every variant of an attribute that the entity carries: one for an instance,
 * several for a study whose instances disagree. A key matches when it matches any of them.
 */
export interface Entity {
  attributes(tag: number): readonly Attribute[];
}

export interface MatchOptions {
  fuzzy?: boolean;
  emptyValueMatching?: boolean;
  /** `&ZZXX` of the query, when Timezone query adjustment was negotiated (PS3.4 C.5.1.1). */
  timezoneOffset?: string;
  combinedDateTime?: boolean;
}

/** One condition; all of a query must hold. `tags`: what it reads, at the root of the data set. */
export interface Condition {
  tags: readonly number[];
  test(entity: Entity): boolean;
}

/** Bounds what one key can cost: a UID list of a large prefetch still fits. */
export const MATCH_LIMITS = { keys: 256, valuesPerKey: 10_000, valueLength: 1_024, depth: 16 } as const;

export const modelEntity = (model: Model): Entity => ({
  attributes(tag) {
    const attribute = model[hexOf(tag)];
    return attribute ? [attribute] : [];
  },
});

/** A value that is an object where text belongs (an item, a broken document) is no text. */
const textOf = (value: unknown): string =>
  value === null || value === undefined || typeof value === 'object' ? '' : String(value);

/** Fails with `invalid-argument` where a key's value cannot be a value of its VR. Universal keys make no condition. */
export function compileKeys(keys: readonly MatchKey[], options: MatchOptions = {}): Condition[] {
  if (keys.length > MATCH_LIMITS.keys) throw new GantryError('invalid-argument', `more than ${MATCH_LIMITS.keys} keys`);
  return compileLevel(keys, 0, options);
}

function compileLevel(keys: readonly MatchKey[], depth: number, options: MatchOptions): Condition[] {
  const conditions: Condition[] = [];
  const sequences = new Map<number, MatchKey[]>();
  const leaves: MatchKey[] = [];
  for (const key of keys) {
    if (key.path.length === 0 || key.path.length > MATCH_LIMITS.depth)
      throw new GantryError('invalid-argument', 'an attribute path is empty or too deep');
    const tag = key.path[depth]!;
    if (key.path.length === depth + 1) leaves.push(key);
    else sequences.set(tag, [...(sequences.get(tag) ?? []), key]);
  }
  const pairs = options.combinedDateTime ? takePairs(leaves, depth, options) : [];
  for (const pair of pairs) conditions.push(pair.condition);
  const paired = new Set(pairs.flatMap((pair) => pair.keys));
  for (const key of leaves) {
    const tag = key.path[depth]!;
    const test = paired.has(key) ? undefined : compileKey(key, tag, options);
    if (test) conditions.push({ tags: [tag], test: (entity) => test(entity.attributes(tag), entity) });
  }
  for (const [tag, inner] of sequences) {
    const tests = compileLevel(inner, depth + 1, options);
    // Sequence Matching (C.2.2.2.6): one Item must match all keys of the Item. Only universal keys: the sequence is universal.
    if (tests.length > 0)
      conditions.push({
        tags: [tag],
        test: (entity) =>
          entity.attributes(tag).some((sequence) =>
            (sequence.Value ?? []).some((item) => {
              const inside = modelEntity((item ?? {}) as Model);
              return tests.every((condition) => condition.test(inside));
            }),
          ),
      });
  }
  return conditions;
}

type VariantTest = (variants: readonly Attribute[], entity: Entity) => boolean;
type ValueTest = (value: unknown, entity: Entity) => boolean;

function compileKey(key: MatchKey, tag: number, options: MatchOptions): VariantTest | undefined {
  const given = key.values.length > 1 ? key.values.filter((value) => value.trim() !== '') : key.values;
  if (given.length === 0 || given.some((value) => asksNothing(key.vr, value))) return undefined; // C.2.2.2.3
  if (given.length > MATCH_LIMITS.valuesPerKey) throw invalid(tag, `has more than ${MATCH_LIMITS.valuesPerKey} values`);
  const empty = options.emptyValueMatching === true && given.some((value) => value.trim() === '""');
  const values = empty ? given.filter((value) => value.trim() !== '""') : given;
  const test = key.vr === 'UN' ? lateTest(tag, values, options) : valueTest(key.vr, tag, values, options);
  return (variants, entity) => {
    if (empty && (variants.length === 0 || variants.some((variant) => isEmpty(variant)))) return true;
    for (const variant of variants)
      for (const value of variant.Value ?? [])
        if (value !== null && value !== '' && test(value, entity, variant.vr)) return true;
    return false;
  };
}

/** C.2.2.2.7, Empty Value Matching: the attribute is absent, or has no value. */
export const isEmpty = (attribute: Attribute): boolean =>
  (attribute.Value ?? []).every(
    (value) => value === null || value === '' || (typeof value === 'object' && Object.keys(value!).length === 0),
  );

/** Unknown VR in the query (a private attribute): the entity's own VR decides. */
function lateTest(
  tag: number,
  values: readonly string[],
  options: MatchOptions,
): (value: unknown, entity: Entity, vr?: string) => boolean {
  const byVr = new Map<string, ValueTest>();
  return (value, entity, vr = 'LO') => {
    const known = vr === 'UN' ? 'LO' : vr;
    let test = byVr.get(known);
    if (!test) {
      try {
        test = valueTest(known, tag, values, options);
      } catch (error) {
        if (!(error instanceof GantryError)) throw error;
        test = () => false; // the key is no value of this entity's VR, so this entity does not match
      }
      byVr.set(known, test);
    }
    return test(value, entity);
  };
}

function valueTest(
  vr: string,
  tag: number,
  values: readonly string[],
  options: MatchOptions,
): ValueTest & ((value: unknown, entity: Entity, vr?: string) => boolean) {
  switch (vr) {
    case 'PN': {
      const tests = values.map((value) => (options.fuzzy ? fuzzyName : personName)(bounded(tag, value)));
      return (value) => {
        const groups = groupsOf(value);
        return tests.some((test) => test(groups));
      };
    }
    case 'UI':
      return uidTest(tag, values);
    case 'DA':
    case 'TM':
    case 'DT': {
      const tests = values.map((value) => temporalTest(vr, tag, bounded(tag, value), options));
      return (value, entity) => tests.some((test) => test(textOf(value), entity));
    }
    case 'IS':
    case 'DS':
    case 'US':
    case 'UL':
    case 'SS':
    case 'SL':
    case 'SV':
    case 'UV':
    case 'FL':
    case 'FD': {
      // PS3.4 C.2.2.2.1 leaves it to us how IS and DS compare: as numbers, so that `+7`, `007` and `7` are one.
      const wanted = new Set(values.map((value) => numberOf(value) ?? fail(tag, 'is no number')));
      return (value) => wanted.has(numberOf(textOf(value)) ?? Number.NaN);
    }
    case 'AT': {
      const wanted = new Set(
        values
          .map((value) => /^\(?([0-9a-f]{4}),?([0-9a-f]{4})\)?$/i.exec(value.trim()) ?? fail(tag, 'is no tag'))
          .map((found) => (found[1]! + found[2]!).toUpperCase()),
      );
      return (value) => wanted.has(textOf(value).toUpperCase());
    }
    case 'AS':
      return textTest(
        vr,
        values.map((value) => (hasWildcard(value) ? fail(tag, 'may hold no wildcard') : value)),
      );
    case 'AE':
    case 'CS':
    case 'LO':
    case 'SH':
    case 'ST':
    case 'LT':
    case 'UC':
    case 'UR':
    case 'UT':
      return textTest(
        vr,
        values.map((value) => (hasWildcard(value) ? bounded(tag, value) : value)),
      );
    default:
      throw invalid(tag, `cannot be matched: its VR is ${/^[A-Z]{2}$/.test(vr) ? vr : 'unknown'}`);
  }
}

function textTest(vr: string, values: readonly string[]): ValueTest {
  const plain = new Set(values.filter((value) => !hasWildcard(value)).map((value) => trimText(vr, canonical(value))));
  const wild = values.filter(hasWildcard).map((value) => wildcard(trimText(vr, canonical(value))));
  return (value) => {
    const text = trimText(vr, canonical(textOf(value)));
    return plain.has(text) || wild.some((test) => test(text));
  };
}

/** PS3.5 Table 6.2-1: which spaces are padding. In ST, LT, UT, UC and UR those in front are part of the value. */
function trimText(vr: string, text: string): string {
  if (!/^[ \0]|[ \0]$/.test(text)) return text;
  const trimmed = text.replace(/[ \0]+$/, '');
  return vr === 'ST' || vr === 'LT' || vr === 'UT' || vr === 'UC' || vr === 'UR'
    ? trimmed
    : trimmed.replace(/^[ \0]+/, '');
}

function uidTest(tag: number, values: readonly string[]): ValueTest {
  // List of UID Matching (C.2.2.2.2). UIDs have no wildcards (C.2.2.2.4): `1.2.*` is a mistake, and no answer would be a wrong one.
  const wanted = new Set(
    values.map((value) => (hasWildcard(value) ? fail(tag, 'may hold no wildcard') : trimUid(value))),
  );
  return (value) => wanted.has(trimUid(textOf(value)));
}

export function groupsOf(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return nameGroups(textOf(value));
  const name = value as { Alphabetic?: string; Ideographic?: string; Phonetic?: string };
  return nameGroups(`${name.Alphabetic ?? ''}=${name.Ideographic ?? ''}=${name.Phonetic ?? ''}`);
}

/** `12 `, `+12`, `012` and `1.2e1` are one number; integers keep all their digits (SV, UV). */
function numberOf(text: string): number | string | undefined {
  const trimmed = text.replace(/^[ \0]+|[ \0]+$/g, '');
  if (/^[+-]?\d+$/.test(trimmed)) {
    const value = Number(trimmed);
    return Number.isSafeInteger(value) ? value + 0 : BigInt(trimmed.replace(/^\+/, '')).toString();
  }
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(trimmed) ? Number(trimmed) : undefined;
}

/** `StudyDate` → `StudyTime`: the attributes that are one moment in two parts. */
export function partnerOf(tag: number): number | undefined {
  const keyword = keywordOf(tag);
  if (keyword?.endsWith('Date')) return tagOf(`${keyword.slice(0, -4)}Time`);
  if (keyword?.endsWith('Time') && !keyword.endsWith('DateTime')) return tagOf(`${keyword.slice(0, -4)}Date`);
  return undefined;
}

const firstText = (entity: Entity, tag: number): string => {
  for (const attribute of entity.attributes(tag)) {
    const value = attribute.Value?.[0];
    if (value !== undefined && value !== null && value !== '') return textOf(value).trim();
  }
  return '';
};

const offsetOf = (entity: Entity): number | undefined => parseOffset(firstText(entity, Tag.TimezoneOffsetFromUTC));

function temporalTest(
  vr: 'DA' | 'TM' | 'DT',
  tag: number,
  key: string,
  options: MatchOptions,
): (value: string, entity: Entity) => boolean {
  const asked =
    parseKey(vr, key) ?? fail(tag, `is no ${vr === 'DA' ? 'date' : vr === 'TM' ? 'time' : 'date and time'} or range`);
  const queryOffset = queryOffsetOf(options);
  if (vr === 'DT')
    return (value, entity) => {
      const offset = offsetOf(entity);
      const wanted = parseKey('DT', key, queryOffset ?? offset ?? 0)!;
      const has = dateTimeInterval(value.trim(), offset ?? queryOffset ?? 0);
      return has !== undefined && within(has, wanted);
    };
  const partner = partnerOf(tag);
  return (value, entity) => {
    const has = vr === 'DA' ? dateInterval(value.trim()) : timeInterval(value.trim());
    if (!has) return false;
    const offset = queryOffset === undefined ? undefined : offsetOf(entity);
    if (queryOffset === undefined || offset === undefined || offset === queryOffset || partner === undefined)
      return within(has, asked);
    // Timezone query adjustment: the same moment may be another day, another hour, where the query was asked.
    const shift = (queryOffset - offset) * 60 * SECOND;
    if (vr === 'TM') return within({ from: modulo(has.from + shift), to: modulo(has.from + shift) }, asked);
    const time = timeInterval(firstText(entity, partner));
    if (!time) return within(has, asked);
    const moved = has.from + time.from + shift;
    return within({ from: moved - modulo(moved), to: moved - modulo(moved) }, asked);
  };
}

const modulo = (micros: number): number => ((micros % DAY) + DAY) % DAY;

/** A value is where it begins: 10:00 is inside `10`, and inside `1000-1100`. */
const within = (has: Interval, asked: Interval): boolean => has.from >= asked.from && has.from <= asked.to;

function queryOffsetOf(options: MatchOptions): number | undefined {
  if (!options.timezoneOffset) return undefined;
  return parseOffset(options.timezoneOffset) ?? fail(Tag.TimezoneOffsetFromUTC, 'is no offset from UTC');
}

/** C.2.2.2.5.4: a date and a time that ask for the same form of range are one interval, as if they were one date-time. */
function takePairs(
  leaves: readonly MatchKey[],
  depth: number,
  options: MatchOptions,
): { keys: MatchKey[]; condition: Condition }[] {
  const pairs: { keys: MatchKey[]; condition: Condition }[] = [];
  for (const dateKey of leaves) {
    const date = dateKey.path[depth]!;
    const time = partnerOf(date);
    const timeKey = dateKey.vr === 'DA' ? leaves.find((key) => key.path[depth] === time && key.vr === 'TM') : undefined;
    if (!timeKey || time === undefined || dateKey.values.length !== 1 || timeKey.values.length !== 1) continue;
    const [days, clock] = [parseKey('DA', dateKey.values[0]!), parseKey('TM', timeKey.values[0]!)];
    if (!days?.range || !clock?.range) continue;
    const open =
      Number.isFinite(days.from) === Number.isFinite(clock.from) &&
      Number.isFinite(days.to) === Number.isFinite(clock.to);
    if (!open) continue; // not the same form
    const asked = { from: days.from + clock.from, to: startOfDay(days.to) + clock.to };
    const queryOffset = queryOffsetOf(options);
    const test = (entity: Entity): boolean => {
      const offset = queryOffset === undefined ? undefined : offsetOf(entity);
      const shift = queryOffset === undefined || offset === undefined ? 0 : (queryOffset - offset) * 60 * SECOND;
      const times = entity.attributes(time).flatMap((attribute) => attribute.Value ?? []);
      const clocks = times.map((value) => timeInterval(textOf(value).trim())).filter((one) => one !== undefined);
      return entity.attributes(date).some((attribute) =>
        (attribute.Value ?? []).some((value) => {
          const day = dateInterval(textOf(value).trim());
          if (!day) return false;
          // Without a time the whole day may be meant: it matches where any moment of it does.
          if (clocks.length === 0) return day.to + shift >= asked.from && day.from + shift <= asked.to;
          return clocks.some((one) => within({ from: day.from + one.from + shift, to: 0 }, asked));
        }),
      );
    };
    pairs.push({ keys: [dateKey, timeKey], condition: { tags: [date, time], test } });
  }
  return pairs;
}

const startOfDay = (instant: number): number => (Number.isFinite(instant) ? instant - modulo(instant) : instant);

function bounded(tag: number, value: string): string {
  if (value.length > MATCH_LIMITS.valueLength)
    throw invalid(tag, `is longer than ${MATCH_LIMITS.valueLength} characters`);
  return value;
}

/** The tag and the rule, never the value: the message ends up in logs. */
function invalid(tag: number, why: string): GantryError {
  return new GantryError('invalid-argument', `the key ${keywordOf(tag) ?? hexOf(tag)} ${why}`, {
    offendingElements: [tag],
  });
}

function fail(tag: number, why: string): never {
  throw invalid(tag, why);
}
