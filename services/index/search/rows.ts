import { hexOf, Tag } from '#dicom/tags.ts';
import type { SearchRequest } from '#proto/index/v1/index.ts';
import { LEVEL_TAGS } from '../fold/levels.ts';
import type { JsonAttributes, JsonElement } from '../fold/types.ts';
import { InstanceEntity, PatientEntity, SeriesEntity, StudyEntity } from './entities.ts';
import {
  ALWAYS,
  COMPUTED,
  DEPTH,
  homeOf,
  IF_KNOWN,
  isKnown,
  NEVER_MATCHED,
  SERIES_REQUEST_PATHS,
  type SearchLevel,
} from './levels.ts';

/**
 * An entity as the DICOM JSON object of its row (PS3.18 §10.6.3.3; PS3.4 C.4.1.1.3.2). Which attributes, in which order: decided once
 * for a question, so that a row is the concatenation of texts.
 */
export type RowEntity = PatientEntity | StudyEntity | SeriesEntity | InstanceEntity;

interface Field {
  tag: number;
  prefix: string; // `"00080020":`
  always: boolean;
  /** Only a header knows it. */
  header: boolean;
  /** Only these attributes of its items; undefined: all of it. */
  paths: (readonly number[])[] | undefined;
}

const ONLINE = '{"vr":"CS","Value":["ONLINE"]}';
const UTF8 = '{"vr":"CS","Value":["ISO_IR 192"]}';

export class RowBuilder {
  readonly level: SearchLevel;
  /** Two questions of one signature make the same row of the same study. */
  readonly signature: string;
  /** Nothing but the document of the row goes into it: the row can be kept with it. */
  readonly fromDocument: boolean;
  readonly needsHeader: boolean;
  readonly needsRelated: boolean;
  readonly #fields: Field[];
  readonly #root: string;
  readonly #wholeHeader: boolean;

  constructor(request: SearchRequest, level: SearchLevel) {
    this.level = level;
    this.#root = request.retrieveUrlRoot;
    this.#wholeHeader = request.includeAll && level === 'IMAGE';
    const fields = new Map<number, Field>();
    const add = (tag: number, always: boolean, path?: readonly number[]): void => {
      // What belongs to a level below has no one value here (PS3.18 §10.6.3.3.1: shall not be returned).
      if (isKnown(tag) && DEPTH[homeOf(tag)] > DEPTH[level]) return;
      const known = fields.get(tag);
      if (!known)
        fields.set(tag, { tag, prefix: `"${hexOf(tag)}":`, always, header: !isKnown(tag), paths: path && [path] });
      else {
        known.always ||= always;
        if (path === undefined) known.paths = undefined;
        else known.paths?.push(path);
      }
    };
    const levels: SearchLevel[] = [level];
    if (request.studyDefaults && level === 'SERIES') levels.push('STUDY');
    if (request.studyDefaults && level === 'IMAGE') levels.push('STUDY', 'SERIES');
    for (const one of levels) {
      for (const tag of ALWAYS[one]) add(tag, true);
      for (const tag of IF_KNOWN[one]) add(tag, false);
      if (one === 'SERIES') for (const path of SERIES_REQUEST_PATHS) add(path[0]!, false, path);
    }
    if (request.includeAll)
      for (const one of ['PATIENT', 'STUDY', 'SERIES', 'IMAGE'] as const)
        if (DEPTH[one] <= DEPTH[level])
          // The counts of a patient are a query of their own, and nobody's idea of the attributes of a study.
          for (const tag of one === 'IMAGE' ? COMPUTED.IMAGE : [...LEVEL_TAGS[one], ...COMPUTED[one]])
            if (one !== 'PATIENT' || level === 'PATIENT' || !COMPUTED.PATIENT.includes(tag)) add(tag, false);
    for (const tag of request.include) add(tag, false);
    for (const { tags } of request.includePaths)
      if (tags.length === 1) add(tags[0]!, false);
      else if (tags.length > 1) add(tags[0]!, false, tags);
    for (const { path } of request.match)
      if (path.length === 1) add(path[0]!, false);
      else if (path.length > 1) add(path[0]!, false, path);
    for (const tag of NEVER_MATCHED) if (tag !== Tag.TimezoneOffsetFromUTC) fields.delete(tag);
    for (const tag of [
      Tag.SpecificCharacterSet,
      Tag.InstanceAvailability,
      ...(this.#root === '' ? [] : [Tag.RetrieveURL]),
    ])
      fields.set(tag, { tag, prefix: `"${hexOf(tag)}":`, always: true, header: false, paths: undefined });
    this.#fields = [...fields.values()].sort((a, b) => a.tag - b.tag);
    const described = this.#fields.map(({ tag, always, paths }) => [
      hexOf(tag),
      always,
      paths?.map((path) => path.map(hexOf)),
    ]);
    this.signature = JSON.stringify([this.#root, this.#wholeHeader, described]);
    this.needsHeader = this.#wholeHeader || this.#fields.some((one) => one.header);
    this.needsRelated = this.#fields.some((one) => COMPUTED.PATIENT.includes(one.tag));
    this.fromDocument = !this.needsHeader && !this.needsRelated;
  }

  build(entity: RowEntity): Buffer {
    if (this.#wholeHeader) return this.#buildWhole(entity as InstanceEntity);
    let text = '{';
    let header: JsonAttributes | undefined;
    for (const field of this.#fields) {
      let own = this.#own(field.tag, entity);
      if (own === undefined) {
        let element: JsonElement | undefined;
        if (field.header) element = (header ??= this.#header(entity))[hexOf(field.tag)];
        else element = entity.shown(field.tag);
        if (element && field.paths) element = prune(element, field.paths, 1);
        if (element?.BulkDataURI !== undefined) element = this.#linked(element);
        own = element ? JSON.stringify(element) : field.always ? `{"vr":"${EMPTY_VRS[field.tag] ?? 'LO'}"}` : undefined;
      }
      if (own !== undefined) text += (text.length > 1 ? ',' : '') + field.prefix + own;
    }
    return bufferOf(`${text}}`);
  }

  /** `includefield=all` of an instance: its header, what the rows know laid over. */
  #buildWhole(entity: InstanceEntity): Buffer {
    const parts = new Map<string, string>();
    for (const [hex, element] of Object.entries(entity.header)) parts.set(hex, JSON.stringify(this.#linked(element)));
    for (const { tag, always } of this.#fields) {
      const own = this.#own(tag, entity);
      if (own !== undefined) parts.set(hexOf(tag), own);
      else if (!parts.has(hexOf(tag))) {
        const element = entity.shown(tag);
        if (element) parts.set(hexOf(tag), JSON.stringify(element));
        else if (always) parts.set(hexOf(tag), `{"vr":"${EMPTY_VRS[tag] ?? 'LO'}"}`);
      }
    }
    return Buffer.from(
      `{${[...parts.keys()]
        .sort()
        .map((hex) => `"${hex}":${parts.get(hex)!}`)
        .join()}}`,
    );
  }

  #own(tag: number, entity: RowEntity): string | undefined {
    if (tag === Tag.InstanceAvailability) return ONLINE;
    if (tag === Tag.SpecificCharacterSet) return UTF8;
    if (tag === Tag.RetrieveURL)
      return entity instanceof PatientEntity
        ? '{"vr":"UR"}'
        : `{"vr":"UR","Value":[${JSON.stringify(this.#root + pathOf(entity))}]}`;
    return undefined;
  }

  #header(entity: RowEntity): JsonAttributes {
    return (entity instanceof InstanceEntity ? entity : entity.representative())?.header ?? {};
  }

  /** Bulk data of a row: a link that resolves, or nothing but the VR. */
  #linked(element: JsonElement): JsonElement {
    if (element.BulkDataURI !== undefined)
      return this.#root === '' ? { vr: element.vr } : { vr: element.vr, BulkDataURI: this.#root + element.BulkDataURI };
    if (element.vr !== 'SQ' || !element.Value) return element;
    return {
      ...element,
      Value: element.Value.map((item) =>
        Object.fromEntries(
          Object.entries((item ?? {}) as JsonAttributes).map(([hex, inner]) => [hex, this.#linked(inner)]),
        ),
      ),
    };
  }
}

/** Memory of its own: from Node's pool a row would drag its neighbours along when it goes to another thread (measured: 2.5 times slower). */
function bufferOf(text: string): Buffer {
  const buffer = Buffer.allocUnsafeSlow(Buffer.byteLength(text));
  buffer.write(text);
  return buffer;
}

const EMPTY_VRS: Record<number, string> = {
  [Tag.StudyDate]: 'DA',
  [Tag.StudyTime]: 'TM',
  [Tag.AccessionNumber]: 'SH',
  [Tag.ReferringPhysicianName]: 'PN',
  [Tag.PatientName]: 'PN',
  [Tag.PatientID]: 'LO',
  [Tag.PatientBirthDate]: 'DA',
  [Tag.PatientSex]: 'CS',
  [Tag.StudyID]: 'SH',
  [Tag.Modality]: 'CS',
  [Tag.SeriesNumber]: 'IS',
  [Tag.InstanceNumber]: 'IS',
};

export function pathOf(entity: StudyEntity | SeriesEntity | InstanceEntity): string {
  if (entity instanceof StudyEntity) return `/studies/${encodeURIComponent(entity.uid)}`;
  if (entity instanceof SeriesEntity) return `${pathOf(entity.study)}/series/${encodeURIComponent(entity.uid)}`;
  return `${pathOf(entity.series)}/instances/${encodeURIComponent(entity.record.sopInstanceUid)}`;
}

/** Of each item only what was asked for, at any depth. */
function prune(element: JsonElement, paths: readonly (readonly number[])[], depth: number): JsonElement {
  if (element.vr !== 'SQ' || !element.Value) return element;
  const inner = new Map<number, (readonly number[])[]>();
  for (const path of paths) {
    const tag = path[depth];
    if (tag === undefined) return element; // one path ends here: all of it
    inner.set(tag, [...(inner.get(tag) ?? []), path]);
  }
  const tags = [...inner.keys()].sort((a, b) => a - b);
  const Value = element.Value.map((item) => {
    const pruned: JsonAttributes = {};
    for (const tag of tags) {
      const found = ((item ?? {}) as JsonAttributes)[hexOf(tag)];
      if (found) pruned[hexOf(tag)] = prune(found, inner.get(tag)!, depth + 1);
    }
    return pruned;
  });
  return { vr: 'SQ', Value };
}
