/**
 * The upper layer state machine of PS3.8 §9.2, as its tables: states (9-1 to 9-5), actions (9-6 to 9-9), transitions (9-10).
 * Nothing here acts: `transition()` says what a connection has to do and where it goes.
 */

export const STATES = {
  Sta1: 'idle',
  Sta2: 'transport connection open, awaiting A-ASSOCIATE-RQ PDU',
  Sta3: 'awaiting local A-ASSOCIATE response primitive',
  Sta4: 'awaiting transport connection opening to complete',
  Sta5: 'awaiting A-ASSOCIATE-AC or A-ASSOCIATE-RJ PDU',
  Sta6: 'association established and ready for data transfer',
  Sta7: 'awaiting A-RELEASE-RP PDU',
  Sta8: 'awaiting local A-RELEASE response primitive',
  Sta9: 'release collision, requestor side; awaiting A-RELEASE response primitive',
  Sta10: 'release collision, acceptor side; awaiting A-RELEASE-RP PDU',
  Sta11: 'release collision, requestor side; awaiting A-RELEASE-RP PDU',
  Sta12: 'release collision, acceptor side; awaiting A-RELEASE response primitive',
  Sta13: 'awaiting transport connection close indication',
} as const;
export type State = keyof typeof STATES;

export const EVENTS = {
  Evt1: 'A-ASSOCIATE request primitive',
  Evt2: 'transport connection confirmed',
  Evt3: 'A-ASSOCIATE-AC PDU received',
  Evt4: 'A-ASSOCIATE-RJ PDU received',
  Evt5: 'transport connection indication',
  Evt6: 'A-ASSOCIATE-RQ PDU received',
  Evt7: 'A-ASSOCIATE response primitive (accept)',
  Evt8: 'A-ASSOCIATE response primitive (reject)',
  Evt9: 'P-DATA request primitive',
  Evt10: 'P-DATA-TF PDU received',
  Evt11: 'A-RELEASE request primitive',
  Evt12: 'A-RELEASE-RQ PDU received',
  Evt13: 'A-RELEASE-RP PDU received',
  Evt14: 'A-RELEASE response primitive',
  Evt15: 'A-ABORT request primitive',
  Evt16: 'A-ABORT PDU received',
  Evt17: 'transport connection closed',
  Evt18: 'ARTIM timer expired',
  Evt19: 'unrecognized or invalid PDU received',
} as const;
export type Event = keyof typeof EVENTS;

export type Effect =
  | 'connect'
  | 'send-rq'
  | 'send-ac'
  | 'send-rj'
  | 'send-data'
  | 'send-release-rq'
  | 'send-release-rp'
  | 'send-abort-user' // source 0
  | 'send-abort-provider' // source 2, with a reason
  | 'close'
  | 'start-artim'
  | 'stop-artim'
  | 'indicate-associate'
  | 'confirm-accept'
  | 'confirm-reject'
  | 'indicate-data'
  | 'indicate-release'
  | 'confirm-release'
  | 'indicate-abort' // A-ABORT or A-P-ABORT
  | 'indicate-closed'; // not in the standard's words: AA-2, AA-5 and AR-5 tell nobody, but our bookkeeping has to know

interface ActionRow {
  effects: readonly Effect[];
  next: State;
  /** AE-6 when the request is not acceptable to the provider; AR-8 on the acceptor's side. */
  otherwise?: { effects: readonly Effect[]; next: State };
}

export const ACTIONS = {
  'AE-1': { effects: ['connect'], next: 'Sta4' },
  'AE-2': { effects: ['send-rq'], next: 'Sta5' },
  'AE-3': { effects: ['confirm-accept'], next: 'Sta6' },
  'AE-4': { effects: ['confirm-reject', 'close'], next: 'Sta1' },
  'AE-5': { effects: ['start-artim'], next: 'Sta2' },
  'AE-6': {
    effects: ['stop-artim', 'indicate-associate'],
    next: 'Sta3',
    otherwise: { effects: ['stop-artim', 'send-rj', 'start-artim'], next: 'Sta13' },
  },
  'AE-7': { effects: ['send-ac'], next: 'Sta6' },
  'AE-8': { effects: ['send-rj', 'start-artim'], next: 'Sta13' },
  'DT-1': { effects: ['send-data'], next: 'Sta6' },
  'DT-2': { effects: ['indicate-data'], next: 'Sta6' },
  'AR-1': { effects: ['send-release-rq'], next: 'Sta7' },
  'AR-2': { effects: ['indicate-release'], next: 'Sta8' },
  'AR-3': { effects: ['confirm-release', 'close'], next: 'Sta1' },
  'AR-4': { effects: ['send-release-rp', 'start-artim'], next: 'Sta13' },
  'AR-5': { effects: ['stop-artim', 'indicate-closed'], next: 'Sta1' },
  'AR-6': { effects: ['indicate-data'], next: 'Sta7' },
  'AR-7': { effects: ['send-data'], next: 'Sta8' },
  'AR-8': {
    effects: ['indicate-release'],
    next: 'Sta9',
    otherwise: { effects: ['indicate-release'], next: 'Sta10' },
  },
  'AR-9': { effects: ['send-release-rp'], next: 'Sta11' },
  'AR-10': { effects: ['confirm-release'], next: 'Sta12' },
  'AA-1': { effects: ['send-abort-user', 'start-artim'], next: 'Sta13' },
  'AA-2': { effects: ['stop-artim', 'close', 'indicate-closed'], next: 'Sta1' },
  'AA-3': { effects: ['indicate-abort', 'close'], next: 'Sta1' },
  'AA-4': { effects: ['indicate-abort'], next: 'Sta1' },
  'AA-5': { effects: ['stop-artim', 'indicate-closed'], next: 'Sta1' },
  'AA-6': { effects: [], next: 'Sta13' },
  'AA-7': { effects: ['send-abort-provider'], next: 'Sta13' },
  'AA-8': { effects: ['send-abort-provider', 'indicate-abort', 'start-artim'], next: 'Sta13' },
} as const satisfies Record<string, ActionRow>;
export type Action = keyof typeof ACTIONS;

/** PS3.8 Table 9-10, a column a line; a missing cell cannot happen unless our own code is wrong. */
export const TRANSITIONS: Readonly<Record<State, Readonly<Partial<Record<Event, Action>>>>> = {
  Sta1: { Evt1: 'AE-1', Evt5: 'AE-5' },
  Sta2: {
    Evt3: 'AA-1',
    Evt4: 'AA-1',
    Evt6: 'AE-6',
    Evt10: 'AA-1',
    Evt12: 'AA-1',
    Evt13: 'AA-1',
    Evt16: 'AA-2',
    Evt17: 'AA-5',
    Evt18: 'AA-2',
    Evt19: 'AA-1',
  },
  Sta3: {
    Evt3: 'AA-8',
    Evt4: 'AA-8',
    Evt6: 'AA-8',
    Evt7: 'AE-7',
    Evt8: 'AE-8',
    Evt10: 'AA-8',
    Evt12: 'AA-8',
    Evt13: 'AA-8',
    Evt15: 'AA-1',
    Evt16: 'AA-3',
    Evt17: 'AA-4',
    Evt19: 'AA-8',
  },
  Sta4: { Evt2: 'AE-2', Evt15: 'AA-2', Evt17: 'AA-4' },
  Sta5: {
    Evt3: 'AE-3',
    Evt4: 'AE-4',
    Evt6: 'AA-8',
    Evt10: 'AA-8',
    Evt12: 'AA-8',
    Evt13: 'AA-8',
    Evt15: 'AA-1',
    Evt16: 'AA-3',
    Evt17: 'AA-4',
    Evt19: 'AA-8',
  },
  Sta6: {
    Evt3: 'AA-8',
    Evt4: 'AA-8',
    Evt6: 'AA-8',
    Evt9: 'DT-1',
    Evt10: 'DT-2',
    Evt11: 'AR-1',
    Evt12: 'AR-2',
    Evt13: 'AA-8',
    Evt15: 'AA-1',
    Evt16: 'AA-3',
    Evt17: 'AA-4',
    Evt19: 'AA-8',
  },
  Sta7: {
    Evt3: 'AA-8',
    Evt4: 'AA-8',
    Evt6: 'AA-8',
    Evt10: 'AR-6',
    Evt12: 'AR-8',
    Evt13: 'AR-3',
    Evt15: 'AA-1',
    Evt16: 'AA-3',
    Evt17: 'AA-4',
    Evt19: 'AA-8',
  },
  Sta8: {
    Evt3: 'AA-8',
    Evt4: 'AA-8',
    Evt6: 'AA-8',
    Evt9: 'AR-7',
    Evt10: 'AA-8',
    Evt12: 'AA-8',
    Evt13: 'AA-8',
    Evt14: 'AR-4',
    Evt15: 'AA-1',
    Evt16: 'AA-3',
    Evt17: 'AA-4',
    Evt19: 'AA-8',
  },
  Sta9: {
    Evt3: 'AA-8',
    Evt4: 'AA-8',
    Evt6: 'AA-8',
    Evt10: 'AA-8',
    Evt12: 'AA-8',
    Evt13: 'AA-8',
    Evt14: 'AR-9',
    Evt15: 'AA-1',
    Evt16: 'AA-3',
    Evt17: 'AA-4',
    Evt19: 'AA-8',
  },
  Sta10: {
    Evt3: 'AA-8',
    Evt4: 'AA-8',
    Evt6: 'AA-8',
    Evt10: 'AA-8',
    Evt12: 'AA-8',
    Evt13: 'AR-10',
    Evt15: 'AA-1',
    Evt16: 'AA-3',
    Evt17: 'AA-4',
    Evt19: 'AA-8',
  },
  Sta11: {
    Evt3: 'AA-8',
    Evt4: 'AA-8',
    Evt6: 'AA-8',
    Evt10: 'AA-8',
    Evt12: 'AA-8',
    Evt13: 'AR-3',
    Evt15: 'AA-1',
    Evt16: 'AA-3',
    Evt17: 'AA-4',
    Evt19: 'AA-8',
  },
  Sta12: {
    Evt3: 'AA-8',
    Evt4: 'AA-8',
    Evt6: 'AA-8',
    Evt10: 'AA-8',
    Evt12: 'AA-8',
    Evt13: 'AA-8',
    Evt14: 'AR-4',
    Evt15: 'AA-1',
    Evt16: 'AA-3',
    Evt17: 'AA-4',
    Evt19: 'AA-8',
  },
  Sta13: {
    Evt3: 'AA-6',
    Evt4: 'AA-6',
    Evt6: 'AA-7',
    Evt10: 'AA-6',
    Evt12: 'AA-6',
    Evt13: 'AA-6',
    Evt16: 'AA-2',
    Evt17: 'AR-5',
    Evt18: 'AA-2',
    Evt19: 'AA-7',
  },
};

export interface Transition {
  action: Action;
  effects: readonly Effect[];
  next: State;
}

/** Undefined: the table has no such cell. `otherwise` takes the second branch of AE-6 and AR-8. */
export function transition(state: State, event: Event, otherwise = false): Transition | undefined {
  const action = TRANSITIONS[state][event];
  if (action === undefined) return undefined;
  const row: ActionRow = ACTIONS[action];
  const { effects, next } = otherwise && row.otherwise !== undefined ? row.otherwise : row;
  return { action, effects, next };
}
