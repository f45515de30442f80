/** Service users over an association: what `gantry send`, C-MOVE sub-operations, commitment reports and tests call. */
import { COMMAND, type CommandSet, PRIORITY } from './command.ts';
import { AssociationError } from './errors.ts';
import type { AcceptedContext, Association, DataSource, Incoming, RequestOptions } from './types.ts';

const VERIFICATION = '1.2.840.10008.1.1';

export interface Response {
  status: number;
  command: CommandSet;
  /** The data set of the response, at most `dataLengthMax` bytes of it are taken. */
  data?: Buffer;
  transferSyntax: string;
}

export interface ServiceOptions extends RequestOptions {
  /** A context by its id, where several were accepted for the class. */
  contextId?: number;
  /** Longest data set taken from a response; default 1 MiB (an identifier, an event report). */
  dataLengthMax?: number;
}

const DATA_LENGTH_MAX = 1024 * 1024;

function contextFor(association: Association, abstractSyntax: string, contextId: number | undefined): AcceptedContext {
  const context =
    contextId === undefined ? association.findContext(abstractSyntax) : association.contexts.get(contextId);
  if (context === undefined) {
    throw new AssociationError('no-context', `no presentation context was accepted for ${abstractSyntax}`);
  }
  return context;
}

async function toResponse(incoming: Incoming, dataLengthMax = DATA_LENGTH_MAX): Promise<Response> {
  const { command, transferSyntax } = incoming;
  const data = incoming.data === undefined ? undefined : await incoming.data.whole(dataLengthMax);
  // A response without Status is a failure that we cannot name.
  return { status: command.status ?? 0x0110, command, data, transferSyntax };
}

export async function echo(association: Association, options: ServiceOptions = {}): Promise<Response> {
  const context = contextFor(association, VERIFICATION, options.contextId);
  const command = { commandField: COMMAND.C_ECHO_RQ, affectedSopClassUid: VERIFICATION };
  return toResponse(await association.request(context.id, command, undefined, options));
}

export interface StoreRequest {
  /** The context must carry the transfer syntax that `data` is written in: choose it with `findContext`. */
  contextId: number;
  sopClassUid: string;
  sopInstanceUid: string;
  data: DataSource;
  priority?: number;
  moveOriginatorAeTitle?: string; // C-MOVE sub-operations (PS3.7 §9.1.1.1.9)
  moveOriginatorMessageId?: number;
}

export async function store(
  association: Association,
  request: StoreRequest,
  options: ServiceOptions = {},
): Promise<Response> {
  const command = {
    commandField: COMMAND.C_STORE_RQ,
    affectedSopClassUid: request.sopClassUid,
    affectedSopInstanceUid: request.sopInstanceUid,
    priority: request.priority ?? PRIORITY.MEDIUM,
    moveOriginatorAeTitle: request.moveOriginatorAeTitle,
    moveOriginatorMessageId: request.moveOriginatorMessageId,
  };
  return toResponse(await association.request(request.contextId, command, request.data, options));
}

async function* query(
  association: Association,
  command: { commandField: number; affectedSopClassUid: string; moveDestination?: string },
  identifier: Buffer,
  options: ServiceOptions,
): AsyncGenerator<Response, void, undefined> {
  const context = contextFor(association, command.affectedSopClassUid, options.contextId);
  const full = { ...command, priority: PRIORITY.MEDIUM };
  for await (const incoming of association.exchange(context.id, full, identifier, options)) {
    yield await toResponse(incoming, options.dataLengthMax);
  }
}

/** Every response, the final one last. Leaving the loop early sends C-CANCEL-RQ and waits for the end. */
export function find(
  association: Association,
  sopClassUid: string,
  identifier: Buffer,
  options: ServiceOptions = {},
): AsyncGenerator<Response, void, undefined> {
  return query(association, { commandField: COMMAND.C_FIND_RQ, affectedSopClassUid: sopClassUid }, identifier, options);
}

export function move(
  association: Association,
  sopClassUid: string,
  moveDestination: string,
  identifier: Buffer,
  options: ServiceOptions = {},
): AsyncGenerator<Response, void, undefined> {
  const command = { commandField: COMMAND.C_MOVE_RQ, affectedSopClassUid: sopClassUid, moveDestination };
  return query(association, command, identifier, options);
}

/**
 * C-GET: `onStore` gets each incoming C-STORE-RQ, pulls its data and gives the status. Connect with a role selection
 * `{ scu: false, scp: true }` for every storage class. Every C-GET-RSP is yielded, the final one last.
 */
export async function* get(
  association: Association,
  sopClassUid: string,
  identifier: Buffer,
  onStore: (incoming: Incoming) => Promise<number>,
  options: ServiceOptions = {},
): AsyncGenerator<Response, void, undefined> {
  const failed = new AbortController();
  let failure: unknown;
  const messages = association.messages();
  const serve = async () => {
    for await (const incoming of messages) {
      if (incoming.command.commandField !== COMMAND.C_STORE_RQ) {
        await association.respond(incoming, { status: 0x0211 }); // unrecognized operation
        continue;
      }
      await association.respond(incoming, { status: await onStore(incoming) });
    }
  };
  const served = serve().catch((error: unknown) => {
    failure = error;
    failed.abort();
    association.abort('a C-STORE sub-operation could not be taken');
  });
  try {
    const command = { commandField: COMMAND.C_GET_RQ, affectedSopClassUid: sopClassUid };
    yield* query(association, command, identifier, options);
  } catch (error) {
    throw failure ?? error;
  } finally {
    await messages.return?.();
    await served;
  }
}

export interface NormalizedRequest {
  sopClassUid: string;
  sopInstanceUid?: string;
  data?: DataSource;
}

type Normalized<E> = (
  association: Association,
  request: NormalizedRequest & E,
  options?: ServiceOptions,
) => Promise<Response>;

/** DIMSE-N (PS3.7 §10): the class and instance are Requested…, but Affected… for events and creation. */
function normalized<E extends Partial<CommandSet>>(commandField: number, affected: boolean): Normalized<E> {
  return async (association, request, options = {}) => {
    const { sopClassUid, sopInstanceUid, data, ...extra } = request;
    const context = contextFor(association, sopClassUid, options.contextId);
    const names = affected
      ? { affectedSopClassUid: sopClassUid, affectedSopInstanceUid: sopInstanceUid }
      : { requestedSopClassUid: sopClassUid, requestedSopInstanceUid: sopInstanceUid };
    const incoming = await association.request(context.id, { commandField, ...names, ...extra }, data, options);
    return toResponse(incoming, options.dataLengthMax);
  };
}

export const nEventReport = normalized<{ eventTypeId: number }>(COMMAND.N_EVENT_REPORT_RQ, true);
export const nAction = normalized<{ actionTypeId: number }>(COMMAND.N_ACTION_RQ, false);
export const nGet = normalized<{ attributeIdentifierList?: number[] }>(COMMAND.N_GET_RQ, false);
export const nSet = normalized<object>(COMMAND.N_SET_RQ, false);
export const nCreate = normalized<object>(COMMAND.N_CREATE_RQ, true);
export const nDelete = normalized<object>(COMMAND.N_DELETE_RQ, false);
