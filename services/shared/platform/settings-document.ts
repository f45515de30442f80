import type { Module, SettingRow, SettingsTable } from './module.ts';
import { PEER_FIELDS } from './peers.ts';
import { environmentName, formatNumber } from './setting-values.ts';
import { platformSettings } from './settings.ts';

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

function shown(row: Pick<SettingRow, 'type' | 'default'>): string {
  if (Array.isArray(row.default))
    return row.default.length === 0 ? 'none' : row.default.map((item) => `\`${item}\``).join(', ');
  if (typeof row.default === 'number') return `\`${formatNumber(row.type, row.default)}\``;
  return row.default === '' ? 'none' : `\`${row.default}\``;
}

function bounds(row: Pick<SettingRow, 'type' | 'min' | 'max' | 'values'>): string {
  if (row.values) return `${row.type === 'list' ? 'of ' : ''}${row.values.join(', ')}`;
  const parts = [
    row.min === undefined ? '' : `≥ ${formatNumber(row.type, row.min)}`,
    row.max === undefined ? '' : `≤ ${formatNumber(row.type, row.max)}`,
  ];
  const range = parts.filter((part) => part !== '').join(', ');
  return range === '' ? row.type : `${row.type}, ${range}`;
}

/** services/SETTINGS.md, from the tables that the code runs on. */
export function settingsDocument(modules: readonly Pick<Module, 'name' | 'settings'>[]): string {
  const out = [
    '# Settings',
    '',
    'Generated from the settings tables of all modules (`node services/shared/platform/settings-document.run.ts`); a test fails when it is not current.',
    '',
    'Write them in `gantry.yaml` (the file that `GANTRY_CONFIG` names, else `./gantry.yaml`, else the one in the data directory), as `dimse: {port: 104}` or `dimse.port: 104`, or in the environment, which wins. Sizes take `kB` `MB` `GB` `KiB` `MiB` `GiB`, times take `ms` `s` `min` `h` `d`. Unknown keys stop the start. **R**: SIGHUP re-reads it. **L**: a limit, which a test drives to its refusal.',
  ];
  // Some keys are read by several modules: each stands once, where it comes first.
  const seen = new Set<string>();
  const section = (title: string, whole: SettingsTable) => {
    const table = Object.entries(whole).filter(([key]) => !seen.has(key));
    if (table.length === 0) return;
    out.push(
      '',
      `## ${title}`,
      '',
      '| setting | environment | default | may be | | what and why |',
      '|---|---|---|---|---|---|',
    );
    for (const [key, row] of table) {
      seen.add(key);
      const names = [environmentName(key, row), ...(row.envAlso === undefined ? [] : [row.envAlso])];
      const environment = row.type === 'peers' ? '' : names.map((name) => `\`${name}\``).join(', ');
      const flags = `${row.reload ? 'R' : ''}${row.limit ? 'L' : ''}`;
      out.push(`| \`${key}\` | ${environment} | ${shown(row)} | ${cell(bounds(row))} | ${flags} | ${cell(row.doc)} |`);
    }
  };
  section('platform', platformSettings);
  for (const module of modules) section(module.name, module.settings);
  out.push(
    '',
    '## Fields of a peer',
    '',
    'Each entry of `peers:` (only in `gantry.yaml`).',
    '',
    '| field | default | may be | what |',
    '|---|---|---|---|',
  );
  for (const [name, field] of Object.entries(PEER_FIELDS))
    out.push(
      `| \`${name}\` | ${field.required ? 'must be given' : shown(field)} | ${cell(bounds(field))} | ${cell(field.doc)} |`,
    );
  return `${out.join('\n')}\n`;
}
