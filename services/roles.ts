import type { Module, SettingsTable } from '#platform/module.ts';

/** Every module, loaded only where a role needs it. */
const MODULES = {
  auth: async () => (await import('./auth/module.ts')).authModule,
  'storage/data': async () => (await import('./storage/data/module.ts')).dataModule,
  'storage/keeper': async () => (await import('./storage/keeper/module.ts')).keeperModule,
  index: async () => (await import('./index/module.ts')).indexModule,
  ingest: async () => (await import('./ingest/module.ts')).module,
  'gateway/dimse': async () => (await import('./gateway/dimse/module.ts')).dimseModule,
  'gateway/http': async () => (await import('./gateway/http/module.ts')).httpModule,
} satisfies Record<string, () => Promise<Module>>;

export type ModuleName = keyof typeof MODULES;

/**
 * role → modules, in the order in which they start; they stop in reverse, doors first. `needs`: what they ask of other processes, by the
 * names of platform.endpoints (roles.test.ts holds it to the code); the role is ready once each was reached. `asks` are needed for upkeep
 * only, later: nobody waits for them.
 */
export const ROLES = {
  all: {
    modules: ['auth', 'storage/data', 'index', 'ingest', 'storage/keeper', 'gateway/dimse', 'gateway/http'],
    needs: [],
    asks: [],
    doc: 'everything in one process: the embedded default (file system and SQLite)',
  },
  auth: { modules: ['auth'], needs: [], asks: [], doc: 'who may' },
  // An association ends in the process that writes its bytes, so pixels make no extra hop.
  ingest: {
    modules: ['storage/data', 'ingest', 'gateway/dimse'],
    needs: ['auth', 'index'],
    asks: [],
    doc: 'the DIMSE door, and the path of an incoming instance into the archive',
  },
  storage: {
    modules: ['storage/data', 'storage/keeper'],
    needs: [],
    asks: ['index'], // compaction's questions; the index itself waits for us
    doc: 'the archive for readers, and its upkeep',
  },
  index: {
    modules: ['index'],
    needs: ['storage'],
    asks: [],
    doc: 'what the archive shows: the fold over the log, and its questions',
  },
  gateway: {
    modules: ['gateway/http'],
    needs: ['auth', 'index', 'ingest', 'storage', 'gateway.dimse'],
    asks: [],
    doc: 'the HTTP door: DICOMweb, API, viewer',
  },
} as const satisfies Record<string, Role>;
export interface Role {
  modules: readonly ModuleName[];
  needs: readonly string[];
  asks: readonly string[];
  doc: string;
}

/** `others`: the settings of the modules that this role does not start, so that one gantry.yaml serves every role. */
export async function loadRole(role: keyof typeof ROLES): Promise<{ modules: Module[]; others: SettingsTable[] }> {
  const own: readonly ModuleName[] = ROLES[role].modules;
  const rest = (Object.keys(MODULES) as ModuleName[]).filter((name) => !own.includes(name));
  const [modules, others] = await Promise.all(
    [own, rest].map((names) => Promise.all(names.map((name) => MODULES[name]()))),
  );
  return { modules, others: others.map(({ settings }) => settings) };
}

/** For the generated table of settings (services/SETTINGS.md). */
export const allModules = (): Promise<Module[]> => Promise.all(Object.values(MODULES).map((load) => load()));
