import { hash } from 'node:crypto';
import { hexOf, vrOf } from '#dicom/tags.ts';
import { PATIENT_ORDERS, STUDY_ORDERS } from '../../search/order.ts';
import { STUDY_KEYS } from '../../state/keys.ts';

/** Raised whenever a document changes its shape: an index of another version is built again beside it. */
export const ELASTIC_VERSION = 1;

const key = { type: 'keyword', doc_values: false } as const; // looked up
const sort = { type: 'keyword', index: false } as const; // ordered by
const kept = { type: 'keyword', index: false, doc_values: false } as const; // only given back
const number = { type: 'long' } as const;
const binary = { type: 'binary' } as const;

export const isNumeric = (tag: number): boolean => ['IS', 'DS'].includes(vrOf(tag) ?? '');
const orders = (tags: Iterable<number>) =>
  Object.fromEntries(
    [...tags].map((tag) => [`o${hexOf(tag)}`, isNumeric(tag) ? { type: 'double', index: false } : sort]),
  );
const keys = () => Object.fromEntries(STUDY_KEYS.map((tag) => [`k${hexOf(tag)}`, key]));

/** Common to studies and patients: what they are looked up, ordered and shown by. */
const looked = {
  tenant: key,
  oversize: { type: 'boolean', doc_values: false },
  words: key,
  sounds: key,
  doc: kept,
  state: kept,
  revision: { type: 'long', index: false, doc_values: false },
  ...keys(),
} as const;

export const INDICES = {
  studies: {
    ...looked,
    ...orders(STUDY_ORDERS),
    uid: { type: 'keyword' },
    patient: { type: 'keyword' },
    firstOrder: sort,
    series: number,
    instances: number,
    bytes: number,
    trashInstances: number,
    trashBytes: number,
    conflicts: number,
    compactable: number,
    disagrees: number,
    hold: { type: 'boolean', index: false, doc_values: false },
    changedMs: number,
    settled: number,
  },
  patients: { ...looked, ...orders(PATIENT_ORDERS), key: { type: 'keyword' }, live: number },
  series: {
    tenant: key,
    study: key,
    uid: key,
    firstOrder: kept,
    number: kept,
    instances: { type: 'long', index: false, doc_values: false },
    conflicts: { type: 'long', index: false, doc_values: false },
    sums: kept,
    revision: { type: 'long', index: false, doc_values: false },
    doc: kept,
    variants: binary,
    blocks: kept,
    tail: binary,
    sops: { type: 'long', doc_values: false },
  },
  blocks: { tenant: key, study: key, series: key, data: binary, sops: { type: 'long', doc_values: false } },
  state: { tenant: key, kind: key, body: kept },
} as const;
export type IndexName = keyof typeof INDICES;

export const METADATA = { tenant: key, data: binary } as const;

const digest = (...parts: string[]): string => hash('sha256', parts.join('\u0000'), 'base64url').slice(0, 27);
export const studyId = (tenant: string, study: string): string => `${tenant}/${digest(study)}`;
export const seriesId = (tenant: string, study: string, series: string): string => `${tenant}/${digest(study, series)}`;
export const patientId = (tenant: string, patient: string): string => `${tenant}/${digest(patient)}`;

/** What is compared is cut so long; what is longer is marked, and always looked at. */
export const TERM_MAX = 1_024;
export const cut = (text: string): string => (text.length > TERM_MAX ? text.slice(0, TERM_MAX) : text);
