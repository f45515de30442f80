/**
 * Messages out of PDVs (PS3.7 §6.3.1, PS3.8 Annex E): pure. Command and data set fragments of any size, several PDVs in a P-DATA-TF,
 * one over many; messages on different contexts may interleave, on one context they may not.
 */
import { COMMAND, CommandError, type CommandSet, decodeCommand } from './command.ts';
import { Gathered } from './gathered.ts';

/** The peer broke PS3.7; the association is aborted (source 0). */
export class MessageError extends Error {
  readonly limit?: string;
  constructor(message: string, limit?: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'MessageError';
    this.limit = limit;
  }
}

export interface MessageSink {
  /** `hasData`: data() and end() follow. */
  command(contextId: number, command: CommandSet): void;
  data(contextId: number, data: Buffer): void;
  end(contextId: number): void;
}

/** These never carry a data set, whatever their CommandDataSetType says: field peers get it wrong, and then some send one. */
const WITHOUT_DATA = new Set<number>([COMMAND.C_ECHO_RQ, COMMAND.C_ECHO_RSP, COMMAND.C_STORE_RSP, COMMAND.C_CANCEL_RQ]);

/** `stray`: a data set may follow that nobody wants. */
type Awaiting = 'command' | 'data' | 'stray';

interface ContextState {
  awaiting: Awaiting;
  command: Gathered;
}

export class MessageAssembler {
  private readonly sink: MessageSink;
  private readonly commandLengthMax: number;
  private readonly contexts = new Map<number, ContextState>();
  private open = 0;

  /** `contextIds`: the accepted ones. */
  constructor(contextIds: Iterable<number>, sink: MessageSink, commandLengthMax: number) {
    this.sink = sink;
    this.commandLengthMax = commandLengthMax;
    for (const id of contextIds) this.contexts.set(id, { awaiting: 'command', command: new Gathered() });
  }

  /** How many messages have begun and not ended. */
  get incomplete(): number {
    return this.open;
  }

  /** Throws MessageError. */
  fragment(contextId: number, isCommand: boolean, data: Buffer, last: boolean): void {
    const state = this.contexts.get(contextId);
    if (state === undefined) throw new MessageError(`PDV on presentation context ${contextId}, which was not accepted`);
    if (isCommand) this.commandFragment(contextId, state, data, last);
    else this.dataFragment(contextId, state, data, last);
  }

  private commandFragment(contextId: number, state: ContextState, data: Buffer, last: boolean): void {
    if (state.awaiting === 'data') {
      throw new MessageError(
        `a command began on presentation context ${contextId} inside the data set of another message`,
      );
    }
    state.awaiting = 'command';
    const before = state.command.length;
    if (before + data.length > this.commandLengthMax) {
      throw new MessageError(`command set longer than ${this.commandLengthMax} bytes`, 'commandLengthMax');
    }
    let whole = data;
    if (before > 0 || !last) {
      if (before === 0 && data.length > 0) this.open++;
      state.command.append(data);
      if (!last) return;
      whole = state.command.take();
    } else this.open++;
    let command: CommandSet;
    try {
      command = decodeCommand(whole);
    } catch (error) {
      if (error instanceof CommandError) throw new MessageError(error.message, undefined, error);
      throw error;
    }
    if (command.hasData && WITHOUT_DATA.has(command.commandField)) {
      command.hasData = false;
      state.awaiting = 'stray';
    } else if (command.hasData) state.awaiting = 'data';
    if (!command.hasData) this.open--;
    this.sink.command(contextId, command);
  }

  private dataFragment(contextId: number, state: ContextState, data: Buffer, last: boolean): void {
    if (state.awaiting === 'stray') {
      if (last) state.awaiting = 'command';
      return;
    }
    if (state.awaiting !== 'data') {
      throw new MessageError(
        `data set fragment on presentation context ${contextId} without a command that announces one`,
      );
    }
    if (data.length > 0) this.sink.data(contextId, data);
    if (!last) return;
    state.awaiting = 'command';
    this.open--;
    this.sink.end(contextId);
  }
}
