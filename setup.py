"""Installs the package in projects/; which stack provides mmdet is the user's choice.

Nothing of OpenMMLab's, and no torch, is required here: `pip install -e .
--no-build-isolation` leaves a working MMDetection environment as it is.
"""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
REQUIREMENTS = ROOT / 'requirements'


def requirements(name: str) -> list[str]:
    lines = (REQUIREMENTS / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


version: dict[str, str] = {}
exec((ROOT / 'projects/focal_retinanet/version.py').read_text(), version)

setup(
    name='focal-retinanet',
    version=version['__version__'],
    description='"Focal Loss for Dense Object Detection" as a plugin for MMDetection',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    package_dir={'': 'projects'},
    packages=find_packages('projects'),
    package_data={
        'focal_retinanet': [
            'ops/*/*.cpp',
            'acceleration/*.cpp',
            'visualization/report/templates/*',
            'visualization/report/static/*',
        ]
    },
    python_requires='>=3.10,<3.14',
    install_requires=requirements('runtime'),
    extras_require={
        'openmmlab': requirements('openmmlab'),
        'onedl': requirements('onedl'),
        'fast': requirements('fast'),
        'export': requirements('export'),
        'formats': requirements('formats'),
        'web': requirements('web'),
        'tests': requirements('tests'),
    },
)
