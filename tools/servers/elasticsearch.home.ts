// A node's own home: links to the program in the cache, its own configuration, logs and temporary files.
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export function layOutHome(program: string, home: string, settings: Record<string, unknown>): void {
  for (const folder of ['config', 'logs', 'tmp', 'plugins']) mkdirSync(join(home, folder), { recursive: true });
  for (const folder of ['lib', 'modules']) symlinkSync(join(program, folder), join(home, folder));
  symlinkSync(join(program, 'config/log4j2.properties'), join(home, 'config/log4j2.properties'));
  // JSON is YAML.
  writeFileSync(join(home, 'config/elasticsearch.yml'), JSON.stringify(settings, null, 2));
}
