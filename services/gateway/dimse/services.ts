import { isStorageClass } from '#dicom/uids.ts';
import { COMMAND } from '#dimse/command.ts';
import type { PeerService } from '#platform/peers.ts';

/** What the DIMSE door serves: negotiation, dispatch, audit and the conformance statement all read this table. */
export interface ServiceRow {
  /** Abstract syntaxes; storage classes are told by `isStorageClass` instead. */
  abstractSyntaxes: readonly string[] | 'storage';
  commandField: number;
  useCase: string;
  name: string;
  /** Which permission of a peer it needs. */
  permission: PeerService;
}

export const VERIFICATION = '1.2.840.10008.1.1';
export const STORAGE_COMMITMENT = '1.2.840.10008.1.20.1';
export const STORAGE_COMMITMENT_INSTANCE = '1.2.840.10008.1.20.1.1';

/** PS3.4 §C.6: information models, by their FIND, MOVE and GET classes. */
export const MODELS: readonly {
  name: 'patient-root' | 'study-root' | 'patient-study-only';
  find: string;
  move: string;
  get: string;
}[] = [
  {
    name: 'patient-root',
    find: '1.2.840.10008.5.1.4.1.2.1.1',
    move: '1.2.840.10008.5.1.4.1.2.1.2',
    get: '1.2.840.10008.5.1.4.1.2.1.3',
  },
  {
    name: 'study-root',
    find: '1.2.840.10008.5.1.4.1.2.2.1',
    move: '1.2.840.10008.5.1.4.1.2.2.2',
    get: '1.2.840.10008.5.1.4.1.2.2.3',
  },
  {
    name: 'patient-study-only',
    find: '1.2.840.10008.5.1.4.1.2.3.1',
    move: '1.2.840.10008.5.1.4.1.2.3.2',
    get: '1.2.840.10008.5.1.4.1.2.3.3',
  },
];

export const SERVICES: readonly ServiceRow[] = [
  {
    abstractSyntaxes: [VERIFICATION],
    commandField: COMMAND.C_ECHO_RQ,
    useCase: 'dimse.c-echo',
    name: 'Verification',
    permission: 'echo',
  },
  {
    abstractSyntaxes: 'storage',
    commandField: COMMAND.C_STORE_RQ,
    useCase: 'dimse.c-store',
    name: 'Storage',
    permission: 'store',
  },
  {
    abstractSyntaxes: MODELS.map((model) => model.find),
    commandField: COMMAND.C_FIND_RQ,
    useCase: 'dimse.c-find',
    name: 'Query',
    permission: 'find',
  },
  {
    abstractSyntaxes: MODELS.map((model) => model.move),
    commandField: COMMAND.C_MOVE_RQ,
    useCase: 'dimse.c-move',
    name: 'Retrieve (C-MOVE)',
    permission: 'move',
  },
  {
    abstractSyntaxes: MODELS.map((model) => model.get),
    commandField: COMMAND.C_GET_RQ,
    useCase: 'dimse.c-get',
    name: 'Retrieve (C-GET)',
    permission: 'get',
  },
  {
    abstractSyntaxes: [STORAGE_COMMITMENT],
    commandField: COMMAND.N_ACTION_RQ,
    useCase: 'dimse.n-action.storage-commitment',
    name: 'Storage Commitment Push Model',
    permission: 'commitment',
  },
];

/** The services that a class belongs to; none: it is refused in negotiation. */
export const servicesOf = (abstractSyntax: string): ServiceRow[] =>
  SERVICES.filter((row) =>
    row.abstractSyntaxes === 'storage' ? isStorageClass(abstractSyntax) : row.abstractSyntaxes.includes(abstractSyntax),
  );

/** The one service that a command on a context asks for. */
export const serviceFor = (abstractSyntax: string, commandField: number): ServiceRow | undefined =>
  servicesOf(abstractSyntax).find((row) => row.commandField === commandField);

export const modelOf = (abstractSyntax: string) =>
  MODELS.find((model) => [model.find, model.move, model.get].includes(abstractSyntax));
