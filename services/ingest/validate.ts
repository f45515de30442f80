import type { DataSet } from '#dicom/dataset.ts';
import { Tag } from '#dicom/tags.ts';
import { isAcceptableUid, sopClassOf, transferSyntaxOf, trimUid } from '#dicom/uids.ts';
import { type ErrorCode, GantryError } from '#platform/errors.ts';

/** What names an instance. UIDs are opaque: as received, without their padding. */
export interface Identifiers {
  sopClassUid: string;
  sopInstanceUid: string;
  studyInstanceUid: string;
  seriesInstanceUid: string;
}

/** What the sender said about the data set beside it. */
export interface Stated {
  by: 'command set' | 'file meta';
  sopClassUid: string;
  sopInstanceUid: string;
  transferSyntaxUid: string;
}

export interface Facts extends Identifiers {
  stated: Stated | undefined;
  /** The study that a STOW path names; empty: any. */
  studyOfPath: string;
}

interface Rule {
  code: ErrorCode;
  /** Offending Elements, in the order of the data set. */
  tags(facts: Facts): number[];
  /** Becomes the Error Comment: at most 64 characters, no values. */
  comment(facts: Facts): string;
}

const UIDS = [
  ['sopClassUid', Tag.SOPClassUID, 'SOP Class UID'],
  ['sopInstanceUid', Tag.SOPInstanceUID, 'SOP Instance UID'],
  ['studyInstanceUid', Tag.StudyInstanceUID, 'Study Instance UID'],
  ['seriesInstanceUid', Tag.SeriesInstanceUID, 'Series Instance UID'],
] as const;

const uidsThat = (holds: (uid: string) => boolean) => (facts: Facts) => UIDS.filter(([name]) => holds(facts[name]));
const tagsOf = (uids: readonly (typeof UIDS)[number][]) => uids.map(([, tag]) => tag);
const namesOf = (uids: readonly (typeof UIDS)[number][]) =>
  uids.length === 1
    ? uids[0]![2]
    : uids.map(([, , name]) => name.replace(' Instance UID', '').replace(' UID', '')).join(', ') + ' UIDs';

const missing = uidsThat((uid) => uid === '');
const unacceptable = uidsThat((uid) => uid !== '' && !isAcceptableUid(uid));
/** A sender that states nothing (a file meta without UIDs) contradicts nothing. */
const contradicted = (facts: Facts) =>
  UIDS.filter(([name]) => {
    if (name !== 'sopClassUid' && name !== 'sopInstanceUid') return false;
    const stated = facts.stated?.[name] ?? '';
    return stated !== '' && stated !== facts[name];
  });

/**
 * What is refused, in the order in which it is looked for: the same on both doors (conformance.md, "C-STORE"). The statuses stand in
 * `#platform/errors.ts`: missing-identifier, identifier-mismatch, invalid-argument → A900; unsupported-class → 0122. What cannot
 * be read at all (C000) is refused by the reader before it comes here, no space and no permit (A700) by who lacks them.
 */
export const RULES: readonly Rule[] = [
  {
    // Before all others: a DICOMDIR has none of the UIDs, and to hear that they are missing helps nobody.
    code: 'unsupported-class',
    tags: (facts) => (kindsOf(facts).includes('directory') ? [Tag.SOPClassUID] : []),
    comment: () => 'A DICOMDIR is not stored; send the instances it lists',
  },
  {
    code: 'unsupported-class',
    tags: (facts) => (kindsOf(facts).includes('nonPatientObject') ? [Tag.SOPClassUID] : []),
    comment: () => 'Non-Patient Objects (PS3.4 Annex GG) are not stored',
  },
  {
    code: 'unsupported-class',
    tags: (facts) => (kindsOf(facts).includes('inventory') ? [Tag.SOPClassUID] : []),
    comment: () => 'Inventories are not stored',
  },
  {
    code: 'unsupported-class',
    tags: (facts) => (kindsOf(facts).some((kind) => kind !== 'storage') ? [Tag.SOPClassUID] : []),
    comment: () => 'The SOP Class is not a storage class',
  },
  {
    code: 'unsupported-transfer-syntax',
    tags: (facts) =>
      transferSyntaxOf(facts.stated?.transferSyntaxUid ?? '')?.storable === false ? [Tag.TransferSyntaxUID] : [],
    comment: () => 'The transfer syntax cannot carry a stored data set',
  },
  {
    code: 'missing-identifier',
    tags: (facts) => tagsOf(missing(facts)),
    comment: (facts) => `${namesOf(missing(facts))} missing or empty`,
  },
  {
    code: 'invalid-argument',
    tags: (facts) => tagsOf(unacceptable(facts)),
    comment: (facts) => `${namesOf(unacceptable(facts))}: not 1 to 64 printable chars`,
  },
  {
    code: 'identifier-mismatch',
    tags: (facts) => tagsOf(contradicted(facts)),
    comment: (facts) => `${namesOf(contradicted(facts))} differs from the ${facts.stated!.by}`,
  },
  {
    code: 'identifier-mismatch',
    tags: (facts) =>
      facts.studyOfPath !== '' && facts.studyOfPath !== facts.studyInstanceUid ? [Tag.StudyInstanceUID] : [],
    comment: () => 'Study Instance UID differs from the study of the request',
  },
];

/** Of both the stated and the found class, where they are known: an unknown one may be tomorrow's storage class. */
function kindsOf(facts: Facts): string[] {
  return [facts.sopClassUid, facts.stated?.sopClassUid ?? ''].flatMap((uid) => sopClassOf(uid)?.kind ?? []);
}

/** What is at fault, or undefined: then it is kept. */
export function refusalOf(facts: Facts): GantryError | undefined {
  for (const rule of RULES) {
    const offendingElements = rule.tags(facts);
    if (offendingElements.length > 0) return new GantryError(rule.code, rule.comment(facts), { offendingElements });
  }
  return undefined;
}

/**
 * Out of the data set. SOP Class UID alone may be absent there (old writers put it into the meta only): then what was stated holds,
 * since nothing contradicts it and a class that the association negotiated is no guess.
 */
export function identifiersOf(dataSet: DataSet, stated: Stated | undefined): Identifiers {
  const uid = (tag: number) => trimUid(dataSet.string(tag) ?? '');
  return {
    sopClassUid: uid(Tag.SOPClassUID) || (stated?.sopClassUid ?? ''),
    sopInstanceUid: uid(Tag.SOPInstanceUID),
    studyInstanceUid: uid(Tag.StudyInstanceUID),
    seriesInstanceUid: uid(Tag.SeriesInstanceUID),
  };
}
