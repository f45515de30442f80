import { charsetOf, isDefinedTerm } from '#dicom/charset.ts';
import { CHARSET_VRS, type DataSet, type Element } from '#dicom/dataset.ts';
import { dictionaryEntry, hexOf, isGroupLength, isPrivateCreator, keywordOf, Tag, type VR, VRS } from '#dicom/tags.ts';
import { GantryError } from '#platform/errors.ts';
import { SearchRequest } from '#proto/index/v1/index.ts';

/**
 * A C-FIND identifier as a question to the index, and each row as the identifier of an answer (PS3.4 C.4.1). Pure.
 */
export type InformationModel = 'patient-root' | 'study-root' | 'patient-study-only';
export type FindLevel = 'PATIENT' | 'STUDY' | 'SERIES' | 'IMAGE';

export interface FindContext {
  model: InformationModel;
  /** What extended negotiation granted (PS3.4 C.5.1.1); `relational` also by the peer setting `relationalLenient`. */
  relational: boolean;
  dateTime: boolean;
  fuzzy: boolean;
  timezone: boolean;
  emptyValue?: boolean;
  multipleValue?: boolean;
  /** Ours: where the matches can be retrieved from. */
  aeTitle: string;
  /** Peer setting: the set of our answers where it can carry them. */
  responseCharset?: string;
}

export interface FindQuery {
  request: SearchRequest;
  level: FindLevel;
  /** FF00, or FF01 when an optional key of the identifier is one that we cannot match or never return (C.4.1.1.4). */
  pendingStatus: 0xff00 | 0xff01;
  /** A row of the index as the identifier of a C-FIND-RSP: a DICOM JSON model, and the set in which its text is to be written. */
  answer(dataSetJson: Uint8Array): FindAnswer;
}
export interface FindAnswer {
  model: JsonModel;
  /** For `encodeDataSet`; also the value of (0008,0005) in `model`, which is absent for the default repertoire. */
  charset: string;
}
export type JsonModel = Record<string, JsonAttribute>;
export interface JsonAttribute {
  vr: string;
  Value?: unknown[];
  InlineBinary?: string;
  BulkDataURI?: string;
}

/** PS3.4 C.6.1.1, C.6.2.1, C.6.3.1: the levels of each model, and the unique key of each level. */
const LEVELS: Record<InformationModel, readonly FindLevel[]> = {
  'patient-root': ['PATIENT', 'STUDY', 'SERIES', 'IMAGE'],
  'study-root': ['STUDY', 'SERIES', 'IMAGE'],
  'patient-study-only': ['PATIENT', 'STUDY'],
};
const UNIQUE: Record<FindLevel, number> = {
  PATIENT: Tag.PatientID,
  STUDY: Tag.StudyInstanceUID,
  SERIES: Tag.SeriesInstanceUID,
  IMAGE: Tag.SOPInstanceUID,
};
const DEPTH: Record<FindLevel, number> = { PATIENT: 0, STUDY: 1, SERIES: 2, IMAGE: 3 };

/** Keys that belong below a level and have no value above it: asked for there they stay empty, and the answer is FF01. */
const BELOW: readonly [number, FindLevel][] = [
  [Tag.SeriesInstanceUID, 'SERIES'],
  [Tag.SeriesNumber, 'SERIES'],
  [Tag.Modality, 'SERIES'],
  [Tag.NumberOfSeriesRelatedInstances, 'SERIES'],
  [Tag.SOPInstanceUID, 'IMAGE'],
  [Tag.InstanceNumber, 'IMAGE'],
  [Tag.StudyInstanceUID, 'STUDY'],
  [Tag.ModalitiesInStudy, 'STUDY'],
  [Tag.NumberOfStudyRelatedSeries, 'STUDY'],
  [Tag.NumberOfStudyRelatedInstances, 'STUDY'],
];

const QUERY_RETRIEVE_VIEW = 0x00080053;
/** Of the query itself: never matched, never asked of the index. */
const OWN = new Set<number>([
  Tag.SpecificCharacterSet,
  Tag.QueryRetrieveLevel,
  QUERY_RETRIEVE_VIEW,
  Tag.RetrieveAETitle,
  Tag.InstanceAvailability,
  Tag.TimezoneOffsetFromUTC,
]);

/** A key that was asked for: its tag, its VR, and, inside a sequence, what was asked for of each item. */
interface Wanted {
  tag: number;
  vr: VR;
  items?: Wanted[];
}

export function parseFindIdentifier(identifier: DataSet, context: FindContext): FindQuery {
  const level = levelOf(identifier, context.model);
  checkUniqueKeys(identifier, level, context);
  const request = SearchRequest.fromPartial({
    level,
    fuzzy: context.fuzzy,
    combinedDateTime: context.dateTime,
    emptyValueMatching: context.emptyValue ?? false,
  });
  if (context.timezone) request.timezoneOffset = identifier.string(Tag.TimezoneOffsetFromUTC) ?? '';
  const unsupported = new Set<number>();
  const wanted = collect(identifier, [], request, context, unsupported);
  for (const [tag, home] of BELOW) if (DEPTH[home] > DEPTH[level] && identifier.has(tag)) unsupported.add(tag);
  return {
    request,
    level,
    pendingStatus: unsupported.size > 0 ? 0xff01 : 0xff00,
    answer: (dataSetJson) => answer(dataSetJson, wanted, level, identifier, context),
  };
}

/** (0008,0052), or where an SCU forgets it: the lowest level whose unique key it asks for. */
function levelOf(identifier: DataSet, model: InformationModel): FindLevel {
  const levels = LEVELS[model];
  const stated = identifier.string(Tag.QueryRetrieveLevel)?.trim().toUpperCase();
  if (stated) {
    const level = levels.find((one) => one === stated);
    if (!level) throw refuse(Tag.QueryRetrieveLevel, `the Query/Retrieve Level is none of ${levels.join(', ')}`);
    return level;
  }
  return [...levels].reverse().find((one) => identifier.has(UNIQUE[one])) ?? levels[0]!;
}

/** C.4.1.2.1: without relational queries, every unique key above the level has one value and no wildcard. */
function checkUniqueKeys(identifier: DataSet, level: FindLevel, context: FindContext): void {
  if (context.relational) return;
  for (const above of LEVELS[context.model]) {
    if (DEPTH[above] >= DEPTH[level]) return;
    const values = identifier.strings(UNIQUE[above]);
    const one = values.length === 1 && values[0] !== '' && !/[*?]/.test(values[0]!);
    if (!one)
      throw refuse(
        UNIQUE[above],
        `a ${level} query needs one ${keywordOf(UNIQUE[above])}, or relational queries negotiated`,
      );
  }
}

/** Walks the identifier: match keys and includes into the request, what is to be echoed out. */
function collect(
  dataSet: DataSet,
  path: number[],
  request: SearchRequest,
  context: FindContext,
  unsupported: Set<number>,
): Wanted[] {
  const wanted: Wanted[] = [];
  for (const element of dataSet) {
    const { tag, vr } = element;
    if (isGroupLength(tag) || tag >>> 16 < 0x0008 || tag === Tag.DataSetTrailingPadding) continue;
    if (path.length === 0 && OWN.has(tag)) {
      if (tag === Tag.TimezoneOffsetFromUTC) {
        request.include.push(tag);
        wanted.push({ tag, vr });
      }
      continue;
    }
    if (tag === Tag.SpecificCharacterSet) continue;
    const here = [...path, tag];
    if (element.items) {
      // Sequence Matching: one Item (C.2.2.2.6). None, or an empty one: the whole sequence is asked for.
      if (element.items.length > 1) throw refuse(tag, `the key ${keywordOf(tag) ?? hexOf(tag)} has more than one item`);
      const item = element.items[0];
      const items = item && collect(item, here, request, context, unsupported);
      wanted.push({ tag, vr, ...(items && items.length > 0 && { items }) });
      if (!items || items.length === 0) include(request, here);
      continue;
    }
    wanted.push({ tag, vr });
    include(request, here);
    if (isPrivateCreator(tag)) continue; // says what a private key means; asked for, it comes back
    match(element, here, request, context, unsupported);
  }
  return wanted;
}

function include(request: SearchRequest, path: number[]): void {
  if (path.length === 1) request.include.push(path[0]!);
  else request.includePaths.push({ tags: path });
}

function match(
  element: Element,
  path: number[],
  request: SearchRequest,
  context: FindContext,
  unsupported: Set<number>,
): void {
  if (element.isEmpty) return;
  if (VRS[element.vr].kind === 'binary' && element.vr !== 'UN') {
    unsupported.add(element.tag);
    return;
  }
  const values = element.strings();
  if (values.every((value) => value === '')) return;
  // C.2.2.2.8: Multiple Value Matching wants each of the values to be there, but a list of UIDs is a list.
  const vm = dictionaryEntry(element.tag)?.vm ?? '1';
  if (context.multipleValue && element.vr !== 'UI' && values.length > 1 && vm !== '1')
    for (const value of values) request.match.push({ path, vr: element.vr, values: [value] });
  else request.match.push({ path, vr: element.vr, values });
}

function answer(
  dataSetJson: Uint8Array,
  wanted: readonly Wanted[],
  level: FindLevel,
  identifier: DataSet,
  context: FindContext,
): FindAnswer {
  const row = JSON.parse(
    Buffer.from(dataSetJson.buffer, dataSetJson.byteOffset, dataSetJson.byteLength).toString(),
  ) as JsonModel;
  const parts: JsonModel = { [hexOf(Tag.QueryRetrieveLevel)]: { vr: 'CS', Value: [level] } };
  for (const { tag, attribute } of pick(row, wanted)) parts[hexOf(tag)] = attribute;
  // C.4.1.1.3.2: unique keys of the level and above are in every answer, asked for or not.
  for (const one of LEVELS[context.model])
    if (DEPTH[one] <= DEPTH[level]) {
      const key = hexOf(UNIQUE[one]);
      parts[key] ??= row[key] ?? { vr: one === 'PATIENT' ? 'LO' : 'UI' };
    }
  parts[hexOf(Tag.RetrieveAETitle)] = { vr: 'AE', Value: [context.aeTitle] };
  parts[hexOf(Tag.InstanceAvailability)] = row[hexOf(Tag.InstanceAvailability)] ?? { vr: 'CS', Value: ['ONLINE'] };
  const charset = answerCharset(parts, identifier, context.responseCharset);
  if (charset !== '')
    parts[hexOf(Tag.SpecificCharacterSet)] = { vr: 'CS', Value: charset.split('\\').map((term) => term || null) };
  const model: JsonModel = {};
  for (const key of Object.keys(parts).sort()) model[key] = parts[key]!;
  return { model, charset };
}

function* pick(row: JsonModel, wanted: readonly Wanted[]): Generator<{ tag: number; attribute: JsonAttribute }> {
  for (const { tag, vr, items } of wanted) {
    const known = row[hexOf(tag)];
    // What cannot travel in an answer: bulk data has no bytes here, so it is not known (an empty value says so).
    const attribute = known && known.BulkDataURI === undefined ? known : { vr: known?.vr ?? vr };
    if (!items) yield { tag, attribute };
    else {
      const pruned = (attribute.Value ?? []).map((item) =>
        Object.fromEntries([...pick((item ?? {}) as JsonModel, items)].map((one) => [hexOf(one.tag), one.attribute])),
      );
      yield { tag, attribute: pruned.length > 0 ? { vr: 'SQ', Value: pruned } : { vr: 'SQ' } };
    }
  }
}

/** The first of these that can carry every text of the answer: the peer's set, the query's set, UTF-8. */
function answerCharset(model: JsonModel, identifier: DataSet, responseCharset = ''): string {
  const texts = [...textsOf(model)];
  const stated = identifier.charset.specificCharacterSet;
  for (const terms of [responseCharset, stated].filter((one, at) => at === 1 || one !== '')) {
    const charset = charsetOf(terms);
    if (!charset.terms.every((term) => term === '' || isDefinedTerm(term))) continue;
    if (texts.every((text) => charset.canEncode(text))) return charset.specificCharacterSet;
  }
  // An unknown set in the query: plain text needs none.
  return texts.every((text) => /^[\x20-\x7e\s]*$/.test(text)) ? '' : 'ISO_IR 192';
}

function* textsOf(model: JsonModel): Generator<string> {
  for (const { vr, Value } of Object.values(model)) {
    if (vr === 'SQ') for (const item of Value ?? []) yield* textsOf((item ?? {}) as JsonModel);
    else if (vr === 'PN') for (const name of Value ?? []) yield Object.values(name ?? {}).join('=');
    else if (CHARSET_VRS.has(vr as VR)) for (const value of Value ?? []) if (typeof value === 'string') yield value;
  }
}

const refuse = (tag: number, message: string): GantryError =>
  new GantryError('invalid-argument', message, { offendingElements: [tag] });

/** For the conformance statement: what PS3.4 C.2.2.2 wants said. The index matches; its table of cases is the test of these lines. */
export const MATCHING: readonly (readonly [key: string, says: string])[] = [
  [
    'PN',
    'without regard to case, with accents; padding and empty trailing components do not count; a key of one component group is looked for in every group, a key of several wants each in its place; wildcards go across components',
  ],
  [
    'PN, fuzzy',
    'every word finds a word of the name: its beginning without case and accents, one that sounds alike, or, from five letters on, one slip of the finger; also whatever matches literally',
  ],
  ['AE CS LO SH LT ST UC UR UT', 'with regard to case, in Unicode; wildcards * and ?'],
  ['IS DS and binary numbers', 'as numbers: 007, +7 and 7 are one'],
  [
    'DA TM DT',
    'a key covers all that its precision leaves open, a value is where it begins; ranges include their ends; ACR-NEMA forms are read',
  ],
  ['UI', 'one or a list'],
  ['several values', 'any of them; each of them where multiple value matching was negotiated'],
  ['sequences', 'one item meets all keys of the item'],
  [
    'attributes of other levels',
    'above: whose it is; below: whether there is such a series or instance; no value is returned from below',
  ],
  ['instances that disagree', 'a key matches what any of them carries; the values of the first are returned'],
  ['values that the VR cannot have', 'refused with A900'],
];
