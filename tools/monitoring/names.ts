// Which metrics there are: by the code, and by what asks for them.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

export const CHECKOUT = resolve(import.meta.dirname, '../..');

/** Every metric that the code names, in full (a metric's name is never put together), with the series that each kind gives. */
export function metricsOfCode(): Set<string> {
  const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', 'services/**.ts'], {
    cwd: CHECKOUT,
    encoding: 'utf8',
  })
    .split('\n')
    .filter((name) => name !== '' && !/\.(test|testing|contract)\.ts$/.test(name));
  const names = new Set<string>();
  for (const file of files)
    for (const [, name] of readFileSync(join(CHECKOUT, file), 'utf8').matchAll(/'(gantry_[a-z0-9_]+)'/g)) {
      names.add(name!);
      // Of a histogram; nobody else's names end so.
      if (/_(seconds|bytes|entries)$/.test(name!))
        for (const end of ['bucket', 'sum', 'count']) names.add(`${name}_${end}`);
    }
  return names;
}

export const metricsIn = (text: string): string[] => [...new Set(text.match(/\bgantry_[a-z0-9_]+/g) ?? [])];
