import { allSopClasses, allTransferSyntaxes, isStorageClass } from '#dicom/uids.ts';
import { LIMITS } from '#dimse/limits.ts';
import { ERRORS } from '#platform/errors.ts';
import type { Settings } from '#platform/module.ts';
import { MATCHING } from './find-identifier.ts';
import { MODELS, SERVICES, servicesOf } from './services.ts';

const row = (cells: (string | number)[]): string => `| ${cells.join(' | ')} |`;
const table = (head: string[], rows: (string | number)[][]): string =>
  [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');
const hex = (status: number): string => status.toString(16).toUpperCase().padStart(4, '0');

/** The DICOM conformance statement (PS3.2), from the tables that this code runs on: it cannot say what the code does not do. */
export function conformanceStatement(settings: Settings): string {
  const classes = allSopClasses();
  const storage = classes.filter((one) => isStorageClass(one.uid));
  const refused = classes.filter(
    (one) => servicesOf(one.uid).length === 0 && (one.kind === 'nonPatientObject' || /Storage/.test(one.name)),
  );
  return `# DICOM conformance statement of Gantry

Application entity ${settings.string('dimse.aeTitle')}. It accepts associations, and opens them for C-MOVE sub-operations, storage commitment
reports and C-ECHO.

## Services

${table(
  ['service', 'role', 'SOP classes'],
  SERVICES.map((service) => [
    service.name,
    'SCP',
    service.abstractSyntaxes === 'storage'
      ? 'every class that is not known to be something else: current, retired and private ones'
      : service.abstractSyntaxes.join(', '),
  ]).concat([
    ['Storage', 'SCU', 'what is in the archive, as C-MOVE and C-GET sub-operations'],
    ['Verification', 'SCU', '1.2.840.10008.1.1, asked for by an operator'],
  ]),
)}

Query and retrieve: ${MODELS.map((model) => model.name).join(', ')}; relational queries, combined date-time matching, fuzzy person names,
timezone adjustment, empty and multiple value matching by extended negotiation. Retrieved instances go out as they are stored where the peer accepts that transfer syntax, else,
uncompressed ones only, as Explicit or Implicit VR Little Endian. This release does not transcode compressed pixels.

Storage: level 2 (full), elements are not coerced, bit-preserving. Success (0000) means that the received bytes are on stable storage.

Not accepted: ${refused.length === 0 ? 'none of the known storage classes' : `${refused.map((one) => `${one.name} (${one.uid})`).join(', ')}`}.

## Matching

Where PS3.4 C.2.2.2 leaves it to the implementation, for C-FIND and QIDO-RS alike (each line is tested through both doors).

${table(
  ['key', 'matches'],
  MATCHING.map(([key, says]) => [key, says]),
)}

## Association policies

Maximum PDU offered: ${settings.number('dimse.pduLengthMax')} bytes. One operation at a time on an association (asynchronous operations
window 1,1). At most ${settings.number('dimse.associationsMax')} associations, ${settings.number('dimse.associationsPerPeerMax')} of one peer; beyond that A-ASSOCIATE-RJ 2/3/2. Called title not ours:
1/1/7${settings.boolean('dimse.acceptAnyCalledTitle') ? ' (switched off here)' : ''}; unknown caller: 1/1/3${settings.boolean('dimse.acceptUnknown') ? ' (switched off here)' : ', except on loopback'}. User identity is not verified, and no response item claims it.
The acceptor never sends A-RELEASE-RQ.

${table(
  ['limit', 'value', 'unit', 'why'],
  Object.entries(LIMITS).map(([name, limit]) => [name, settings.number(`dimse.${name}`), limit.unit, limit.reason]),
)}

Among several transfer syntaxes of one context the proposer's first is taken, but Explicit before Implicit VR Little Endian, Deflated and Big
Endian last.

## Refusals

${table(
  ['what', 'DIMSE status', 'STOW-RS reason', 'HTTP', 'may be tried again'],
  Object.entries(ERRORS).map(([code, error]) => [
    code,
    hex(error.dimse),
    hex(error.stow),
    error.http,
    error.retry ? 'yes' : 'no',
  ]),
)}

## Storage classes known by name (${storage.length})

${table(
  ['SOP class', 'UID', 'retired'],
  storage.map((one) => [one.name, one.uid, one.retired ? 'yes' : '']),
)}

## Transfer syntaxes

Storage takes any, private ones included; these are known by name. Identifiers are read in the uncompressed ones.

${table(
  ['transfer syntax', 'UID', 'encoding'],
  allTransferSyntaxes().map((one) => [one.name, one.uid, one.encoding]),
)}
`;
}
