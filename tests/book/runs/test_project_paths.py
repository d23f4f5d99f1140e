import pytest

from iavlib.book.notebook_source import notebook_title, read_cells
from iavlib.core import project
from iavlib.core.errors import NotebookError, ProjectError
from iavlib.core.project import find_project, select_notebooks


def test_project_is_found_from_a_folder_below(workshop, monkeypatch):
    below = workshop.project.root / "notebooks" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert find_project() == workshop.project


def test_variable_names_the_project(workshop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IAV_PROJECT", str(workshop.project.root))
    assert find_project() == workshop.project
    monkeypatch.setenv("IAV_PROJECT", str(tmp_path))
    with pytest.raises(ProjectError, match=r"IAV_PROJECT=.*is not a project"):
        find_project()


def test_elsewhere_it_is_the_clone_that_the_library_lies_in(workshop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_project().notebook_files()
    monkeypatch.setattr(project, "_CLONE", workshop.project.root)
    assert find_project() == workshop.project
    monkeypatch.chdir(workshop.project.book)
    monkeypatch.setattr(project, "_CLONE", tmp_path)
    assert find_project() == workshop.project


def test_outside_a_project_the_error_says_what_a_project_is(tmp_path, monkeypatch):
    monkeypatch.delenv("IAV_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(project, "_CLONE", tmp_path)  # installed without a clone
    with pytest.raises(ProjectError, match=r"_toc.yml and book/claims.yml"):
        find_project()


def test_notebooks_come_in_the_order_of_their_numbers(workshop):
    for stem in ("10_last", "2_second", "01_first", "appendix"):
        workshop.notebook(stem)
    chosen = [path.stem for path in select_notebooks(workshop.project)]
    assert chosen == ["01_first", "2_second", "10_last", "appendix"]


@pytest.mark.parametrize("name", ["01_first", "01", "1", "notebooks/01_first.ipynb"])
def test_a_notebook_is_chosen_by_name_number_or_path(workshop, name):
    path = workshop.notebook("01_first")
    workshop.notebook("10_last")
    assert select_notebooks(workshop.project, [name]) == [path]


def test_a_misspelt_notebook_is_named_with_near_ones(workshop):
    workshop.notebook("01_data_analysis")
    with pytest.raises(ProjectError, match=r"'01_data_analisis'; did you mean '01_data_analysis'"):
        select_notebooks(workshop.project, ["01_data_analisis"])
    with pytest.raises(ProjectError, match="no notebook '02'"):
        select_notebooks(workshop.project, ["02"])


def test_a_notebook_elsewhere_is_refused(workshop, tmp_path):
    workshop.notebook("01_first")
    other = tmp_path / "mine.ipynb"
    other.write_text("{}")
    with pytest.raises(ProjectError, match=r"is not in .*notebooks"):
        select_notebooks(workshop.project, [str(other)])


def test_no_notebooks_at_all_is_an_error(workshop):
    with pytest.raises(ProjectError, match="holds no notebook"):
        select_notebooks(workshop.project)


def test_a_truncated_notebook_is_named(workshop):
    path = workshop.notebook("01_first", "x = 1")
    path.write_text(path.read_text()[:-40])
    with pytest.raises(NotebookError, match=r"01_first.ipynb: not a whole notebook"):
        read_cells(path)


def test_title_is_the_first_heading(workshop):
    assert notebook_title(workshop.notebook("01_first", title="Data & masks")) == "Data & masks"
