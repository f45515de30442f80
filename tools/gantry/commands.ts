// Every command, by what it is for. Loaded only when it is asked for: `gantry status` in a monitor starts in a moment.
import type { Command } from './command.ts';

const COMMANDS = {
  up: async () => (await import('./commands/up.ts')).upCommand,
  status: async () => (await import('./commands/status.ts')).statusCommand,
  import: async () => (await import('./commands/import.ts')).importCommand,
  send: async () => (await import('./commands/send.ts')).sendCommand,
  find: async () => (await import('./commands/find.ts')).findCommand,
  get: async () => (await import('./commands/get.ts')).getCommand,
  export: async () => (await import('./commands/export.ts')).exportCommand,
  delete: async () => (await import('./commands/delete.ts')).deleteCommand,
  trash: async () => (await import('./commands/trash.ts')).trashCommand,
  hold: async () => (await import('./commands/hold.ts')).holdCommand,
  conflicts: async () => (await import('./commands/lists.ts')).conflictsCommand,
  peers: async () => (await import('./commands/peers.ts')).peersCommand,
  echo: async () => (await import('./commands/peers.ts')).echoCommand,
  commitments: async () => (await import('./commands/lists.ts')).commitmentsCommand,
  queue: async () => (await import('./commands/lists.ts')).queueCommand,
  conformance: async () => (await import('./commands/upkeep.ts')).conformanceCommand,
  verify: async () => (await import('./commands/verify.ts')).verifyCommand,
  rebuild: async () => (await import('./commands/rebuild.ts')).rebuildCommand,
  compact: async () => (await import('./commands/upkeep.ts')).compactCommand,
  reclaim: async () => (await import('./commands/upkeep.ts')).reclaimCommand,
} satisfies Record<string, () => Promise<Command>>;

export type Name = keyof typeof COMMANDS;
export const NAMES = Object.keys(COMMANDS) as Name[];
export const load = (name: Name): Promise<Command> => COMMANDS[name]();

export const GROUPS: Readonly<Record<string, readonly Name[]>> = {
  'The server': ['up', 'status'],
  'Images in and out': ['import', 'send', 'find', 'get', 'export'],
  'Deletion and doubt': ['delete', 'trash', 'hold', 'conflicts'],
  'Other systems': ['peers', 'echo', 'commitments', 'queue', 'conformance'],
  Upkeep: ['verify', 'rebuild', 'compact', 'reclaim'],
};
