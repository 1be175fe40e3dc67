"""File names are unique."""

from focal_retinanet.visualization.file_names import unique_names


def test_equal_names_get_numbers():
    given = ['a.jpg', 'a_2.jpg', 'a.jpg', 'a.mp4', 'a.jpg', 'b.c.jpg', 'b.c.jpg']
    assert unique_names(given) == [
        'a.jpg',
        'a_2.jpg',
        'a_3.jpg',
        'a.mp4',
        'a_4.jpg',
        'b.c.jpg',
        'b.c_2.jpg',
    ]


def test_a_name_that_occurs_later_keeps_its_file():
    given = ['a.jpg', 'a.jpg', 'a_2.jpg']
    assert unique_names(given) == ['a.jpg', 'a_3.jpg', 'a_2.jpg']


def test_thousands_of_equal_names_take_no_time():
    names = unique_names(['a.jpg'] * 20_000)
    assert names[-1] == 'a_20000.jpg' and len(set(names)) == 20_000
