import { writeFileSync } from 'node:fs';
import { allModules } from '../../roles.ts';
import { settingsDocument } from './settings-document.ts';

// node services/shared/platform/settings-document.run.ts: writes services/SETTINGS.md anew.
writeFileSync(new URL('../../SETTINGS.md', import.meta.url), settingsDocument(await allModules()));
