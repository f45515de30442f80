// kubectl and Helm for tests: from the cache, fetched once (clients.sh).
import { execFileSync, spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';

export const CHART = resolve(import.meta.dirname, '../../charts/gantry');
export const PROFILES = ['trial', 'hospital', 'network'] as const;

let folder: string | undefined;
export const clientPath = (name: string): string => {
  folder ??= execFileSync(join(import.meta.dirname, 'clients.sh'), {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  }).trim();
  return join(folder, name);
};

export function helm(...args: string[]): { status: number; output: string } {
  const { status, stdout, stderr, error } = spawnSync(clientPath('helm'), args, {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  });
  if (error) throw error;
  return { status: status ?? 1, output: status === 0 ? stdout : stdout + stderr };
}

// biome-ignore lint/suspicious/noExplicitAny: a manifest is whatever the template wrote; the schemas judge it.
export type Manifest = Record<string, any>;

/** What the chart makes of a profile and `--set`s. */
export function render(profile: string | undefined, ...sets: string[]): Manifest[] {
  const values = profile === undefined ? [] : ['-f', join(CHART, `values-${profile}.yaml`)];
  const { status, output } = helm(
    'template',
    'gantry',
    CHART,
    '-n',
    'imaging',
    ...values,
    ...sets.flatMap((set) => ['--set-json', set]),
  );
  if (status !== 0) throw new Error(output);
  return parseAllDocuments(output)
    .map((document) => {
      if (document.errors.length > 0) throw document.errors[0]!;
      return document.toJS() as Manifest | null;
    })
    .filter((manifest) => manifest !== null);
}
