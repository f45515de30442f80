/** The words of this library: what an association, a message and a negotiation are made of (PS3.7, PS3.8). Types only. */
import type { CommandSet } from './command.ts';
import type { CloseReason } from './errors.ts';
import type { Limits } from './limits.ts';
import type { AssociateAc, AssociateRq, RoleSelection, UserInformation } from './pdu.ts';

export interface AcceptedContext {
  id: number; // odd, 1..255
  abstractSyntax: string;
  transferSyntax: string;
  /** Which DIMSE roles the requestor may play here (PS3.7 §D.3.3.4); without role selection it is SCU only. */
  requestorScu: boolean;
  requestorScp: boolean;
}

export interface Peer {
  address: string;
  port: number;
  /** Present on TLS. `authorized`: its certificate chain was verified against the configured authorities. */
  tls?: { authorized: boolean; subject?: string; fingerprint256?: string; protocol: string | null };
}

/** The answer to an A-ASSOCIATE-RQ. `negotiate()` makes the first, `REJECT` (reasons.ts) names the second. */
export type Decision =
  | {
      accept: true;
      contexts: { id: number; result: 0 | 1 | 2 | 3 | 4; transferSyntax: string }[];
      roles?: RoleSelection[];
      extended?: { sopClassUid: string; info: Buffer }[];
      userIdentityResponse?: Buffer;
      /** What we offer this peer; absent: limits.pduLengthMax. */
      pduLengthMax?: number;
    }
  | { accept: false; result: number; source: number; reason: number };

export interface Counters {
  bytesReceived: number;
  bytesSent: number;
  pdusReceived: number;
  messagesReceived: number;
  messagesSent: number;
}

/**
 * The data set of a message, pulled. Not pulling stops the socket, so the sender's TCP window closes.
 * Buffers are views of the chunks that the socket delivered: not copied (unless tiny), never reused, valid for as long as you hold them
 * (a held view keeps its chunk of at most 64 KiB alive). Iterate once. Throws AssociationError if the association ends first.
 */
export interface DataStream extends AsyncIterable<Buffer> {
  /** All fragments at hand (at least one), or undefined at the end: one await for a socket read instead of one for a PDV. */
  take(): Promise<Buffer[] | undefined>;
  /** The whole data set in one buffer. More than `maxBytes` → AssociationError `too-large`; the rest is discarded, the association lives. */
  whole(maxBytes: number): Promise<Buffer>;
  /** Reads and forgets the rest. */
  discard(): Promise<void>;
  readonly bytesReceived: number;
}

/** A DIMSE message from the peer, delivered as soon as its command set is complete. */
export interface Incoming {
  contextId: number;
  abstractSyntax: string;
  transferSyntax: string;
  command: CommandSet;
  /** Undefined when CommandDataSetType says there is none. What you leave unread is discarded when you ask for the next message. */
  data?: DataStream;
  whole(maxBytes: number): Promise<Buffer>; // empty when there is no data set
  /** Aborted when a C-CANCEL-RQ for this message comes, or when the association ends. */
  readonly cancelSignal: AbortSignal;
}

export type DataSource = Buffer | Iterable<Buffer> | AsyncIterable<Buffer> | LentData;

/** Buffers that somebody wants back: each is `taken` once the kernel has all of it. Of those that did not get there nothing is said. */
export interface LentData extends AsyncIterable<Buffer> {
  readonly taken: (buffer: Buffer) => void;
}

/** Every field but the CommandDataSetType, which follows from `data`. */
export type OutgoingCommand = Omit<CommandSet, 'hasData'>;

export interface Association {
  readonly id: number; // unique in this process
  readonly role: 'acceptor' | 'requestor';
  readonly callingAeTitle: string; // trimmed of spaces and NULs
  readonly calledAeTitle: string;
  readonly peer: Peer;
  readonly rq: AssociateRq;
  readonly ac: AssociateAc;
  readonly peerUser: UserInformation;
  readonly contexts: ReadonlyMap<number, AcceptedContext>;
  readonly counters: Counters;
  /** Aborted when the association ends, however it ends. */
  readonly signal: AbortSignal;
  readonly closed: Promise<CloseReason>; // never rejects
  /** Anything of yours that should travel with the association (principal, tenant). */
  tag?: unknown;

  /** The first accepted context for a class (and syntax); `as` is the role that *we* would play. */
  findContext(abstractSyntax: string, transferSyntax?: string, as?: 'scu' | 'scp'): AcceptedContext | undefined;
  nextMessageId(): number;

  /**
   * Requests from the peer, in order. Ends (without throwing) when the association was released, aborted or lost: see `closed`.
   * One consumer. Responses and C-CANCEL-RQ do not come here, and are seen while a request is being served.
   */
  messages(): AsyncIterableIterator<Incoming>;
  /**
   * One message, fragmented to the peer's maximum length; resolves when the last byte was handed to the kernel. Sends of several
   * callers queue behind each other. Buffers must not change until it resolves. If `data` throws, the association is aborted
   * (half a data set cannot be taken back) and the error is rethrown.
   */
  send(contextId: number, command: OutgoingCommand, data?: DataSource): Promise<void>;
  /** Answers `incoming`: command field, message id, class and instance come from it. */
  respond(incoming: Incoming, fields: { status: number } & Partial<CommandSet>, data?: DataSource): Promise<void>;
  /** Sends a request and gives its final response; pending ones (FF00, FF01) are discarded. The messageId is filled in when absent. */
  request(contextId: number, command: OutgoingCommand, data?: DataSource, options?: RequestOptions): Promise<Incoming>;
  /** Sends a request and gives every response, the final one last (C-FIND, C-MOVE, C-GET). Leaving early sends a C-CANCEL-RQ. */
  exchange(
    contextId: number,
    command: OutgoingCommand,
    data?: DataSource,
    options?: RequestOptions,
  ): AsyncIterableIterator<Incoming>;
  /** C-CANCEL-RQ for a request of ours. */
  cancel(contextId: number, messageId: number): Promise<void>;

  /** Requestor only (the acceptor never sends A-RELEASE-RQ: DCMTK aborts on it). Resolves when the connection is closed. */
  release(): Promise<void>;
  /** A-ABORT (source 0, service user) and close. Harmless when already closed. */
  abort(detail?: string): void;
}

export interface RequestOptions {
  /** Silence allowed before (each) response; default limits.responseTimeoutMs. Then the association is aborted. */
  responseTimeoutMs?: number;
  signal?: AbortSignal; // aborted: C-CANCEL-RQ for C-FIND/C-MOVE/C-GET, and the call goes on until the final response
}

export interface ListenOptions {
  host?: string;
  port: number; // 0: any
  /** Several processes of one machine on one port (SO_REUSEPORT). */
  reusePort?: boolean;
  tls?: import('node:tls').TlsOptions;
  limits?: Partial<Limits>;
  /** Checked before: protocol version (RJ 1/2/2), application context (RJ 1/1/2). A throw answers RJ 2/3/1 (temporary congestion). */
  onRequest(rq: AssociateRq, peer: Peer): Decision | Promise<Decision>;
  /** Serves it: iterate `association.messages()`. When the promise rejects, the association is aborted and onError told. */
  onAssociation(association: Association): Promise<void>;
  /** Every connection that got beyond TCP ends here once: association undefined when none was established. */
  onClosed?(association: Association | undefined, reason: CloseReason, peer: Peer, counters: Counters): void;
  onError?(error: unknown, association: Association | undefined): void;
}

export interface Acceptor {
  readonly port: number;
  readonly host: string;
  readonly associations: ReadonlySet<Association>;
  readonly unnegotiated: number; // connections that have not yet sent an A-ASSOCIATE-RQ
  /** Takes new limits for the associations that follow (SIGHUP). */
  setLimits(limits: Partial<Limits>): void;
  /**
   * No new connections; associations go on until their peer releases them, and one on which nothing happened for `idleMs` is aborted.
   * Resolves when none is left; `close` ends the rest.
   */
  leave(idleMs: number): Promise<void>;
  /** No new connections; idle associations are aborted at once, busy ones when their message is answered or after `drainMs`. */
  close(drainMs: number): Promise<void>;
}

export interface ConnectOptions {
  host: string;
  port: number;
  tls?: import('node:tls').ConnectionOptions;
  callingAeTitle: string;
  calledAeTitle: string;
  /** At most 128. Ids are given by position (1, 3, 5 …). */
  contexts: { abstractSyntax: string; transferSyntaxes: string[] }[];
  roles?: RoleSelection[];
  extended?: { sopClassUid: string; info: Buffer }[];
  userIdentity?: UserInformation['userIdentity'];
  limits?: Partial<Limits>;
  signal?: AbortSignal;
}
